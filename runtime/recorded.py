"""Denoising steps on a GPU that are launched as a whole, where the engine can be recorded.

Steps of one kind differ in latents, history, timestep and coefficients alone. The first of a kind
runs as ever, which an engine wants before it is recorded; the second runs and is recorded; those
that follow are one launch of a CUDA graph each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine import Session
from ..errors import MutoscopeError
from ..kernels.device import DeviceArray, Stream
from ..kernels.recording import Recording
from .denoise import Taken, moved
from .experts import Expert
from .guidance import GuidedDenoiser

Kind = tuple[Expert, Any, tuple[int, ...]]
"""Denoiser and guidance scale, prompt, and the shape of the coefficients."""


class RecordedSteps:
    """Takes steps, as `denoise.Steps` does and to the same bits."""

    def __init__(
        self,
        denoiser: GuidedDenoiser[DeviceArray],
        stream: Stream,
        refused: Callable[[str], None],
    ) -> None:
        """Begin a run.

        Args:
            denoiser: whose prompt may be replaced between steps.
            stream: that it works on.
            refused: told, once, why steps are not recorded.
        """
        self._denoiser = denoiser
        self._stream = stream
        self._refused: Callable[[str], None] | None = refused
        self._seen: set[Kind] = set()
        self._recordings: dict[Kind, Recording] = {}

    def __call__(
        self,
        arrays: tuple[DeviceArray, ...],
        timestep: np.float32,
        coefficients: NDArray[np.float64],
    ) -> Taken[DeviceArray]:
        """From latents and history to the next."""
        denoiser, arithmetic = self._denoiser, self._denoiser.arithmetic
        expert = denoiser.expert(timestep)

        def step(
            timesteps: DeviceArray, weights: DeviceArray, *arrays: DeviceArray
        ) -> tuple[DeviceArray, ...]:
            prediction = denoiser.predict(expert, arrays[0], timesteps)
            return moved(arithmetic, denoiser.conditioning, weights, arrays, prediction)

        given = (
            denoiser.timesteps(arrays[0], timestep),
            arithmetic.array(coefficients.astype(np.float32)),
            *arrays,
        )
        kind = expert, denoiser.prompt, coefficients.shape
        if kind in self._recordings:
            return Taken(self._recordings[kind](given), recorded=True)
        recording = self._record(kind, step, given) if kind in self._seen else None
        self._seen.add(kind)
        return Taken(recording.results() if recording else step(*given))

    def _record(
        self, kind: Kind, step: Callable[..., Any], given: tuple[DeviceArray, ...]
    ) -> Recording | None:
        """Run and record a step; `None` where that cannot be, now and from now on."""
        if self._refused is None:
            return None
        try:
            recording = _recording(kind[0].session, self._stream, step, given)
        except MutoscopeError as error:
            self._refused(str(error))
            self._refused = None
            return None
        # what another denoiser or prompt left is not launched again
        kept = {k: r for k, r in self._recordings.items() if k[:2] == kind[:2]}
        self._recordings = {**kept, kind: recording}
        return recording


def _recording(
    session: Session, stream: Stream, step: Callable[..., Any], given: tuple[DeviceArray, ...]
) -> Recording:
    """A step, run and recorded.

    Raises:
        MutoscopeError: it cannot be recorded, or failed.
    """
    if not session.recordable:
        raise MutoscopeError(f"the engine of {session.name} cannot be recorded")
    return Recording(stream, step, given)
