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
    "a blue square spins",
    "a cyan cross moves down on a navy background",
    "a yellow triangle bounces",
    "an orange ball moves in a circle",
    "a pink star moves right to left",
    "a green circle shrinks on a gray background",
    "a purple square grows",
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
