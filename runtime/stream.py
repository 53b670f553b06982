"""A clip in the making: step by step, open to being watched, steered and stopped."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .clip import Clip
from .denoise import Denoised
from .output import Destination, Output, destination
from .record import Record

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Step:
    """One denoising step done.

    Attributes:
        index: from 0.
        steps: how many there will be.
        seconds: this one took.
        native_latents: after it, where they lie: on a GPU a `DeviceArray`, which PyTorch, CuPy and
            PyCUDA take without a copy; else NumPy's. No later step changes them.
    """

    index: int
    steps: int
    seconds: float
    native_latents: Any
    _numpy: Callable[[Any], Array]
    _preview: Callable[[Any], NDArray[np.uint8]]

    @property
    def latents(self) -> Array:
        """After it, float32 (1, channels, frames, height, width); a GPU's are copied."""
        return self._numpy(self.native_latents)

    def preview(self) -> NDArray[np.uint8]:
        """A thumbnail of each latent frame, uint8 (frames, height, width, 3)."""
        return self._preview(self.native_latents)


class Stream:
    """Iterate to denoise; then `clip()` decodes what there is.

    Attributes:
        record: the account so far.
        native_latents: as they stand, where they lie.
    """

    def __init__(
        self,
        denoised: Iterator[Denoised[Any]],
        steps: int,
        latents: Any,
        record: Record,
        *,
        numpy: Callable[[Any], Array],
        preview: Callable[[Any], NDArray[np.uint8]],
        steer: Callable[[str], None],
        render: Callable[[Any, Record, Destination | None], Clip],
    ) -> None:
        self.record = record
        self.native_latents = latents
        self._denoised = denoised
        self._steps = steps
        self._numpy = numpy
        self._preview = preview
        self._steer = steer
        self._render = render
        self._stopped = False

    @property
    def latents(self) -> Array:
        """As they stand, float32 (1, channels, frames, height, width); a GPU's are copied."""
        return self._numpy(self.native_latents)

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Step:
        if self._stopped:
            raise StopIteration
        began = time.perf_counter()
        with self.record.stage("denoise"):
            done = next(self._denoised)
        seconds = time.perf_counter() - began
        self.record.step_seconds.append(seconds)
        if done.foretold:
            self.record.foretold_steps.append(done.index)
        if done.recorded:
            self.record.recorded_steps.append(done.index)
        self.native_latents = done.latents
        return Step(done.index, self._steps, seconds, done.latents, self._numpy, self._preview)

    def stop(self) -> None:
        """End the loop after the present step."""
        self._stopped = True

    def steer(self, prompt: str) -> None:
        """Go on with another prompt from the next step."""
        self._steer(prompt)
        self.record.settings.setdefault("steered", []).append(
            {"step": len(self.record.step_seconds), "prompt": prompt}
        )

    def clip(self, output: Output | str | os.PathLike[str] | None = None) -> Clip:
        """Decode the latents as they stand: into memory, or straight into a file.

        Raises:
            UserError: the output cannot be written.
        """
        account = copy.deepcopy(self.record)
        if len(account.step_seconds) < self._steps:
            account.settings["stopped_after"] = len(account.step_seconds)
        return self._render(self.native_latents, account, destination(output, account))
