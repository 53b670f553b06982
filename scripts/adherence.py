"""Does the embedded model show what is asked? A line an attribute, over the plain prompts.

Example: python scripts/adherence.py 48
"""

from __future__ import annotations

import sys

import mutoscope
from mutoscope.bench.adherence import PLAIN, aggregate, prompts, score


def main(count: int) -> None:
    """Make a clip of each prompt, its place being the seed, and score them all."""
    with mutoscope.load() as pipe:
        found = aggregate(
            score(pipe(prompt, seed=seed).frames, scene, PLAIN)
            for seed, (prompt, scene) in enumerate(prompts(count))
        )
    for attribute, tally in found.tallies.items():
        sys.stdout.write(f"{attribute}: {tally.right} of {tally.asked} ({tally.fraction:.3f})\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
