"""What was found: of each clip, of each setting, of all."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..adherence import Adherence, Score, aggregate
from ..report import interval, listed
from .similarity import Similarity, together, worst


@dataclass(frozen=True)
class ClipQuality:
    """One clip.

    Attributes:
        prompt: what it was asked to show.
        seed: of its noise.
        loop_seconds: of denoising.
        seconds: of denoising and decoding.
        similarity: to the reference's clip; `None` for that clip itself.
        score: what it shows of what was asked; `None` for a model of another world.
    """

    prompt: str
    seed: int
    loop_seconds: float
    seconds: float
    similarity: Similarity | None
    score: Score | None


@dataclass(frozen=True)
class Quality:
    """All clips of one setting.

    Attributes:
        bundle: the folder as it was given, or the embedded bundle's name.
        precision: of its denoiser.
        backend: what ran it.
        preset: of the bundle.
        settings: those of `setting.REPORTED`.
        clips: in the order of the prompts.
    """

    bundle: str
    precision: str
    backend: str
    preset: str
    settings: dict[str, Any]
    clips: tuple[ClipQuality, ...]

    @property
    def name(self) -> str:
        """The setting in a few words."""
        s = self.settings
        return (
            f"{self.bundle} {self.precision} on {self.backend}, {self.preset}, {s['scheduler']}, "
            f"{s['steps']} steps, guidance {self.guidance} "
            f"in {interval(s['guidance_interval'])}, "
            f"step cache {s['step_cache']:g}, shift {self.shift}"
        )

    @property
    def guidance(self) -> str:
        """The guidance scale, and what is done beside: "4 by apg (eta 0) rescaled by 0.7"."""
        s = self.settings
        method = {
            "cfg": "",
            "cfg-zero": f" by cfg-zero ({s['zero_init_steps']} zero)",
            "apg": f" by apg (eta {s['apg_eta'] or 0:g}{self._threshold})",
        }[s["guidance_method"]]
        rescaled = f" rescaled by {s['guidance_rescale']:g}" if s["guidance_rescale"] else ""
        return f"{s['guidance_scale']:g}{method}{rescaled}"

    @property
    def _threshold(self) -> str:
        norm = self.settings["apg_norm_threshold"]
        return f", norm {norm:g}" if norm else ""

    @property
    def shift(self) -> str:
        """The shift of the sigmas, where they end if they are stretched ("3 to 0.4"), or which."""
        shift, terminal = self.settings["shift"], self.settings["shift_terminal"]
        if self.settings["sigmas"] is not None:
            return f"{shift:g} of {listed(self.settings['sigmas'])}"
        return f"{shift:g}" if terminal is None else f"{shift:g} to {terminal:g}"

    @property
    def loop_seconds(self) -> float:
        """The median clip's, of denoising, engines open."""
        return statistics.median(clip.loop_seconds for clip in self.clips)

    @property
    def seconds(self) -> float:
        """The median clip's, of denoising and decoding, engines open."""
        return statistics.median(clip.seconds for clip in self.clips)

    @property
    def similarities(self) -> tuple[Similarity, ...]:
        """Of each clip to the reference's; empty for the reference."""
        return tuple(clip.similarity for clip in self.clips if clip.similarity is not None)

    @property
    def similarity(self) -> Similarity | None:
        """Over all clips: the PSNR of the mean squared error, and the mean SSIM."""
        return together(self.similarities) if self.similarities else None

    @property
    def worst(self) -> Similarity | None:
        """The lowest PSNR and the lowest SSIM of a clip."""
        return worst(self.similarities) if self.similarities else None

    @property
    def adherence(self) -> Adherence | None:
        """How well the clips show what was asked, and how steadily."""
        scores = [clip.score for clip in self.clips if clip.score is not None]
        return aggregate(scores) if scores else None


@dataclass(frozen=True)
class Report:
    """The reference, and what was compared with it."""

    reference: Quality
    candidates: tuple[Quality, ...]

    @property
    def all(self) -> tuple[Quality, ...]:
        """Both, the reference first."""
        return self.reference, *self.candidates


@dataclass(frozen=True)
class Gate:
    """What candidates have to reach.

    Attributes:
        min_psnr: in dB, over all clips.
        max_adherence_loss: how many points of a hundred the share of right answers may be below the
            reference's.
    """

    min_psnr: float | None = None
    max_adherence_loss: float | None = None

    def misses(self, report: Report) -> list[str]:
        """What is not reached, a phrase each."""
        return [
            f"{found.name}: {miss}"
            for found in report.candidates
            for miss in (*self._unlike(found), *self._disobedient(found, report.reference))
        ]

    def _unlike(self, found: Quality) -> Iterator[str]:
        if self.min_psnr is None or found.similarity is None:
            return
        psnr = found.similarity.psnr
        if psnr < self.min_psnr:
            yield f"PSNR {psnr:.2f} dB, at least {self.min_psnr:g} wanted"

    def _disobedient(self, found: Quality, reference: Quality) -> Iterator[str]:
        most = self.max_adherence_loss
        if most is None or found.adherence is None or reference.adherence is None:
            return
        kept, whole = found.adherence.answers.fraction, reference.adherence.answers.fraction
        if 100 * (whole - kept) > most:
            yield f"{100 * (whole - kept):.1f} points of adherence lost, {most:g} allowed"
