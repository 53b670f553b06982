"""Clips of the embedded model side by side, one seed for all; takes the file to write.

Example: python scripts/contact_sheet.py docs/contact-sheet.gif
"""

from __future__ import annotations

import sys

import mutoscope
from mutoscope.bench.tiles import grid
from mutoscope.runtime.video import open_writer

PROMPTS = [
    "a red circle moves left to right",
    "a cyan fish moves right to left over the sea",
    "a red balloon moves up over the ground under a blue sky",
    "a purple heart moves in a circle on a navy background",
    "an orange circle above a blue square on a gradient background",
    "a yellow star spins at night under the stars, the camera pans left",
    "a pink car left of a green tree on a white background",
    "a red boat over the sea, the camera zooms in",
]
COLUMNS = 4
SEED = 7


def main(path: str) -> None:
    """Generate, tile and write."""
    with mutoscope.load() as pipe:
        clips = [pipe(prompt, seed=SEED).frames for prompt in PROMPTS]
    sheet = grid(clips, COLUMNS)
    frames, height, width, _ = sheet.shape
    with open_writer(
        path, width=width, height=height, fps=12, frames=frames, overwrite=True
    ) as writer:
        for frame in sheet:
            writer.write(frame)


if __name__ == "__main__":
    main(sys.argv[1])
