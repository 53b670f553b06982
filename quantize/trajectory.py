"""What the denoisers of a bundle are given while clips are made, and what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..engine import EngineOptions, Session, Sessions
from ..engine.bundle import Bundle
from ..engine.manifest import DENOISERS
from ..engine.session import Tensor
from ..runtime.pipeline import Pipeline

Array = NDArray[np.float32]
T = TypeVar("T")
BACKEND = "onnxruntime"


@dataclass(frozen=True)
class Call:
    """One run of a denoiser.

    Attributes:
        graph: its name.
        feeds: its inputs by name; both branches of guidance where they run together.
        output: its prediction.
    """

    graph: str
    feeds: dict[str, NDArray[Any]]
    output: Array


@dataclass(frozen=True)
class Step:
    """One denoising step: the runs that it took, and the latents after it.

    The latents are float32 (1, channels, frames, height, width).
    """

    calls: tuple[Call, ...]
    latents: Array


@dataclass(frozen=True)
class Clips:
    """Which clips are made: a prompt each, noise from `seed` upwards, and fields of `Request`."""

    prompts: tuple[str, ...]
    seed: int
    options: Mapping[str, Any]

    def split(self, count: int) -> tuple[Clips, Clips]:
        """The first ones, and all others."""
        first, others = self.prompts[:count], self.prompts[count:]
        return replace(self, prompts=first), replace(self, prompts=others, seed=self.seed + count)


def record(bundle: Bundle, clips: Clips, threads: int | None) -> Iterator[list[Step]]:
    """Denoise clips on the CPU, and give the steps of each; one graph is open at a time.

    Raises:
        UserError: an option that cannot be, or onnxruntime is not installed.
    """
    calls: list[Call] = []
    sessions = _Watched(bundle, BACKEND, EngineOptions(threads), keep_open=False)
    sessions.calls = calls
    with Pipeline(bundle, sessions) as pipe:
        for seed, prompt in enumerate(clips.prompts, clips.seed):
            steps = []
            for step in pipe.stream(prompt, **{**clips.options, "seed": seed}):
                steps.append(Step(tuple(calls), step.latents))
                calls.clear()
            yield steps


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most so many of some things, at equal distances from the first to the last."""
    chosen = min(count, len(items))
    apart = (len(items) - 1) / max(1, chosen - 1)
    return [items[round(place * apart)] for place in range(chosen)]


class _Watched(Sessions):
    """Sessions that note in `calls` what goes through the denoisers."""

    calls: list[Call]

    def __call__(self, name: str) -> Session:
        session = super().__call__(name)
        return _WatchedSession(session, self) if name in DENOISERS else session


class _WatchedSession(Session):
    def __init__(self, session: Session, sessions: _Watched) -> None:
        super().__init__(session.name, sessions.bundle.graph(session.name))
        self._session = session
        self._calls = sessions.calls

    def _run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs = self._session.run(feeds)
        arrays = {name: np.array(tensor) for name, tensor in feeds.items()}
        self._calls.append(Call(self.name, arrays, np.array(outputs["sample"])))
        return outputs

    def close(self) -> None:
        """Close what is watched."""
        self._session.close()
