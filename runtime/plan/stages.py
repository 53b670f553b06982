"""What the stages of a clip take. The engines of one are closed before those of the next open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ...engine.manifest import DECODERS, DENOISERS, TEXT_ENCODER, Manifest
from ...engine.planner import Needs, Peak, Weights, in_precision
from ..conditioning import graphs_for_image
from ..guidance import fits_batched
from ..request import Settings, latent_shape

PROCESS = 100 << 20
"""Bytes of Python, NumPy, ONNX Runtime and the encoder with no bundle open: measured."""

NODE = 8 << 10
"""Bytes that ONNX Runtime holds for each node of a graph, weights aside: measured."""

LEFT_BEHIND = 8 << 20
"""Bytes that engines leave in the process when they are closed: measured."""

PICTURES = 4
"""Copies of the frames of one run of the VAE, in fp32, while they become RGB."""

ENOUGH_RUNS = 4
"""By then the arena of a session has stopped to grow."""

Tell = Callable[[str, Mapping[str, int], int], Needs]
"""What a graph takes for axes of some lengths, after so many runs."""

Opened = dict[str, Needs]
"""The graphs that are open at one time, and what each takes."""


@dataclass(frozen=True)
class Stages:
    """What each stage of a clip takes, with the longest prompt there may be.

    Attributes:
        manifest: of the bundle.
        settings: of the clip.
        tell: what one of its graphs takes.
        loras: bytes that they take in a process with a denoiser open on the CPU.
        text_precisions: that the text encoder's weights may have on the CPU, the most exact first;
            `None` is their own, in any other `quantize` stores them.
    """

    manifest: Manifest
    settings: Settings
    tell: Tell
    loras: int = 0
    text_precisions: tuple[str | None, ...] = (None,)

    def text(self, precision: str | None = None) -> Opened:
        """The text encoder; with weights in another precision it is for the CPU."""
        whole = self._needs(TEXT_ENCODER, 1 + self.settings.guided)
        needed = whole if precision is None else in_precision(whole, TEXT_ENCODER, precision)
        return {TEXT_ENCODER: needed}

    def image(self) -> Opened:
        """The encoders of an image, where one is given."""
        if self.settings.image is None:
            return {}
        names = graphs_for_image(self.manifest, self.settings.frames)
        runs = {"vae_encoder_next": self._further}
        return {name: self._needs(name, runs.get(name, 1)) for name in names}

    def denoiser(self, *, batched: bool) -> Opened:
        """A denoiser; of two one is open at a time, and they are alike: the first is told of."""
        name, settings = DENOISERS[0], self.settings
        runs = settings.steps * (1 + settings.guided - batched)
        return {name: self._needs(name, runs, {"batch": 1 + batched})}

    def decoder(self, tile: int) -> list[Opened]:
        """The VAE's decoder in tiles of that side in pixels (0: none), in the order of its runs."""
        first, following = DECODERS
        inside = tile // self.manifest.latents.spatial_compression
        _, _, _, height, width = self.settings.latent_shape
        size = {"latent_height": min(height, inside), "latent_width": min(width, inside)}
        axes = size if tile else {}
        begun = self._needs(first, 1, axes)
        if not self._further:
            return [{first: begun}]
        last = {following: self._needs(following, self._further, axes)}
        if tile:  # they take turns
            return [{first: begun, **last}]
        taken = {first: _closed(begun), following: self._needs(following, 1, axes)}
        return [{first: begun}, taken, last]

    def batched(self, memory: int) -> bool:
        """Whether both predictions of a step go through at once, where there is that memory."""
        settings = self.settings
        return (
            settings.guided
            and not settings.sequential_guidance
            and fits_batched(self.manifest, settings.latent_shape, memory)
        )

    def ram(self, opened: Opened, tile: int = 0) -> int:
        """Bytes of a process with these graphs open in ONNX Runtime on the CPU."""
        engines = sum(
            n.cpu.weights + max(n.cpu.arena, n.weights.widened) + NODE * n.nodes
            for n in opened.values()
        )
        engines += self.loras if opened.keys() & set(DENOISERS) else 0
        frames = min(self.settings.frames, 4)
        return PROCESS + engines + PICTURES * frames * self._picture + self._canvas(tile)

    def vram(self, opened: Opened, tile: int = 0) -> int:
        """Bytes of a GPU with these graphs open there: an estimate."""
        engines = sum(n.gpu.weights + n.gpu.live + n.inputs for n in opened.values())
        return engines + self._canvas(tile)

    def resized(self, width: int, height: int, frames: int) -> Stages:
        """The same for a clip of another size."""
        shape = latent_shape(self.manifest, width, height, frames)
        settings = replace(
            self.settings, width=width, height=height, frames=frames, latent_shape=shape
        )
        return replace(self, settings=settings)

    @property
    def _further(self) -> int:
        """Latent frames after the first."""
        return self.settings.latent_shape[2] - 1

    @property
    def _picture(self) -> int:
        """Bytes of a frame in float32."""
        return 4 * 3 * self.settings.width * self.settings.height

    def _canvas(self, tile: int) -> int:
        """Bytes of the frames that wait until all their tiles are there."""
        settings = self.settings
        tiled = 0 < tile < max(settings.width, settings.height)
        return settings.frames * self._picture if tiled else 0

    def _needs(self, name: str, runs: int, other: Mapping[str, int] | None = None) -> Needs:
        _, _, frames, height, width = self.settings.latent_shape
        axes = {
            "batch": 1,
            "tokens": self.manifest.text.max_tokens,
            "latent_frames": frames,
            "latent_height": height,
            "latent_width": width,
        }
        return self.tell(name, {**axes, **(other or {})}, min(runs, ENOUGH_RUNS))


def _closed(needs: Needs) -> Needs:
    """What is left of an engine while the next one takes its results.

    On a GPU they count as the next one's inputs. ONNX Runtime's arena lies there as it was until
    the last of them is gone.
    """
    cpu = replace(needs.cpu, weights=0)
    return Needs(nodes=0, cpu=cpu, gpu=Peak(), inputs=0, weights=Weights())
