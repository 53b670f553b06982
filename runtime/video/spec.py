"""What a clip is to be: size, rate, length, quality, metadata; checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from ...errors import MutoscopeError, UserError, unknown

DEFAULT_QUALITY = 75
NO_DITHER = "none"
DITHERS = (NO_DITHER, "bayer")
"""How values are rounded to codes: to the nearest, or by an ordered 8x8 pattern."""

MAX_SIDE = 16384
MAX_RATE = 1000


@dataclass(frozen=True)
class ClipSpec:
    """`frames` pictures of `height` x `width`, `rate` of them a second.

    Attributes:
        quality: 0 (worst) to 100 (best), which each encoder maps to its own scale.
        metadata: tags of the file; keys are lower case.
        depth: bits of a channel, 8 or 10.
        dither: one of `DITHERS`.
    """

    width: int
    height: int
    rate: Fraction
    frames: int
    quality: int
    metadata: Mapping[str, str]
    depth: int = 8
    dither: str = NO_DITHER

    @classmethod
    def checked(
        cls,
        *,
        width: int,
        height: int,
        fps: float | Fraction,
        frames: int,
        quality: int | None = None,
        metadata: Mapping[str, str] | None = None,
        depth: int = 8,
        dither: str = NO_DITHER,
    ) -> ClipSpec:
        """Check the figures; `None` is the default.

        Raises:
            UserError: a figure that no clip can have.
            MutoscopeError: a metadata key that is not lower case.
        """
        if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
            raise UserError(f"cannot write {width}x{height} frames: a side has 1 to {MAX_SIDE}")
        if frames < 1:
            raise UserError(f"a clip has at least one frame, not {frames}")
        quality = DEFAULT_QUALITY if quality is None else quality
        if not 0 <= quality <= 100:
            raise UserError(f"quality is 0 (worst) to 100 (best), not {quality}")
        if depth not in (8, 10):
            raise UserError(f"a channel has 8 or 10 bits, not {depth}")
        if dither not in DITHERS:
            raise UserError(unknown("dither", dither, DITHERS))
        tags = _tags(metadata or {})
        return cls(width, height, frame_rate(fps), frames, quality, tags, depth, dither)

    @property
    def dithered(self) -> bool:
        """Whether values are rounded by a pattern."""
        return self.dither != NO_DITHER

    @property
    def even_size(self) -> tuple[int, int]:
        """Width and height rounded up to even, as 4:2:0 pictures must be."""
        return self.width + self.width % 2, self.height + self.height % 2


def frame_rate(fps: float | Fraction) -> Fraction:
    """The rate as video has it: 23.976 is 24000/1001, other values keep a denominator up to 1001.

    Raises:
        UserError: not a rate between 0 and 1000.
    """
    exact = Fraction(fps) if math.isfinite(fps) else Fraction(0)
    rate = exact.limit_denominator(1001)
    if not 0 < rate <= MAX_RATE:
        raise UserError(f"frames a second are above 0 and up to {MAX_RATE}, not {float(fps):g}")
    ntsc = Fraction(round(rate * 1001 / 1000) * 1000, 1001)
    return ntsc if abs(ntsc - rate) <= rate / 5000 else rate


def _tags(metadata: Mapping[str, str]) -> Mapping[str, str]:
    for key in metadata:
        if not key.isidentifier() or key != key.lower():
            raise MutoscopeError(f"metadata key {key!r} is not a lower-case word")
    return MappingProxyType({key: _storable(value) for key, value in metadata.items()})


def _storable(text: str) -> str:
    """The text without what containers cannot store: NUL and lone surrogates."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
