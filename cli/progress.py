"""What a person sees while a clip is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..closing import Closing
from ..runtime.output import write_image
from ..runtime.stream import Step

PREVIEW_SCALE = 8


class BuildProgress(Closing):
    """A progress bar on stderr for one engine, silent when that is no terminal."""

    def __init__(self, graph: str) -> None:
        self._graph = graph
        self._bar: Any = None

    def __call__(self, phase: str, done: int, steps: int) -> None:
        """Show the phase, and the outermost phase's steps."""
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=steps, desc=self._graph, unit="step", leave=False, disable=None)
        self._bar.total = steps
        self._bar.set_postfix_str(phase.lower(), refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Clear the bar."""
        if self._bar is not None:
            self._bar.close()


class Progress(Closing):
    """A progress bar on stderr, silent when that is no terminal; and a preview file, if asked."""

    def __init__(self, preview: Path | None = None) -> None:
        self._preview = preview
        self._bar: Any = None

    def __call__(self, step: Step) -> None:
        """Show one step."""
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=step.steps, desc="denoising", unit="step", disable=None)
        self._bar.update()
        if self._preview is not None:
            write_image(self._preview, contact_sheet(step.preview()))

    def close(self) -> None:
        """End the line of the bar."""
        if self._bar is not None:
            self._bar.close()


def contact_sheet(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Thumbnails (frames, height, width, 3), enlarged, side by side: (height, width, 3)."""
    strip = np.concatenate(list(thumbnails), axis=1)
    return strip.repeat(PREVIEW_SCALE, axis=0).repeat(PREVIEW_SCALE, axis=1)
