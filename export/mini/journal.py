"""What a training tells: progress lines, kept in a log as well, and sample sheets."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .sheets import write_png
from .state import Clock

LINE_SECONDS = 5.0


class Journal:
    """Collects figures between lines, without waiting for the device in between."""

    def __init__(self, name: str, folder: Path, step: int) -> None:
        self.name = name
        self.folder = folder
        self._sums: dict[str, Tensor] = {}
        self._first = step
        self._told = time.monotonic()
        if step:
            self._write(f"goes on at step {step}")

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Count a step's figures."""
        for name, value in metrics.items():
            kept = value.detach().float()
            self._sums[name] = self._sums[name] + kept if name in self._sums else kept

    def tell(self, clock: Clock, progress: float, *, now: bool = False) -> None:
        """Write a line of means over the steps since the last one, every few seconds or now."""
        seconds, steps = time.monotonic() - self._told, clock.step - self._first
        if not steps or (seconds < LINE_SECONDS and not now):
            return
        means = " ".join(f"{name} {value.item() / steps:.4g}" for name, value in self._sums.items())
        self._write(
            f"step {clock.step} {100 * min(progress, 1):.0f}% {clock.seconds:.0f} s "
            f"({seconds / steps:.3f} s a step) {means}"
        )
        self._sums, self._first, self._told = {}, clock.step, time.monotonic()

    def show(self, picture: NDArray[np.uint8], step: int) -> None:
        """Write a sample sheet."""
        folder = self.folder / "samples"
        folder.mkdir(exist_ok=True)
        write_png(folder / f"{step:07d}.png", picture)

    def _write(self, text: str) -> None:
        line = f"{self.name}: {text}"
        print(line, file=sys.stderr, flush=True)  # noqa: T201  progress is for whoever watches
        with (self.folder / "log.txt").open("a") as log:
            log.write(f"{line}\n")
