from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from mutoscope.errors import MutoscopeError, UserError
from mutoscope.runtime.video.spec import ClipSpec, frame_rate


def spec(**changes: Any) -> ClipSpec:
    return ClipSpec.checked(**{"width": 96, "height": 64, "fps": 12, "frames": 9, **changes})


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (12, Fraction(12)),
        (16.0, Fraction(16)),
        (24, Fraction(24)),
        (12.5, Fraction(25, 2)),
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (119.88, Fraction(120000, 1001)),
        (Fraction(24000, 1001), Fraction(24000, 1001)),
        (24000 / 1001, Fraction(24000, 1001)),
        (0.5, Fraction(1, 2)),
        (1, Fraction(1)),
        (1000, Fraction(1000)),
    ],
)
def test_frame_rate(fps: float | Fraction, rate: Fraction) -> None:
    assert frame_rate(fps) == rate


@pytest.mark.parametrize("fps", [0, -1, 1001, math.inf, math.nan, 1e-9])
def test_impossible_rate(fps: float) -> None:
    with pytest.raises(UserError) as caught:
        frame_rate(fps)
    assert str(caught.value) == f"frames a second are above 0 and up to 1000, not {fps:g}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "cannot write 0x64 frames: a side has 1 to 16384"),
        ({"height": 16385}, "cannot write 96x16385 frames: a side has 1 to 16384"),
        ({"frames": 0}, "a clip has at least one frame, not 0"),
        ({"quality": -1}, "quality is 0 (worst) to 100 (best), not -1"),
        ({"quality": 101}, "quality is 0 (worst) to 100 (best), not 101"),
    ],
)
def test_impossible_figures(changes: dict[str, int], message: str) -> None:
    with pytest.raises(UserError) as caught:
        spec(**changes)
    assert str(caught.value) == message


def test_defaults() -> None:
    assert spec() == ClipSpec(96, 64, Fraction(12), 9, 75, {})


@pytest.mark.parametrize("key", ["Title", "a b", "a=b", ""])
def test_metadata_keys_are_lower_case_words(key: str) -> None:
    with pytest.raises(MutoscopeError) as caught:
        spec(metadata={key: "x"})
    assert str(caught.value) == f"metadata key {key!r} is not a lower-case word"


def test_metadata_keeps_what_a_file_can_store() -> None:
    assert spec(metadata={"title": "a\0b\ud800c\né"}).metadata == {"title": "ab?c\né"}


def test_even_size() -> None:
    assert spec(width=97, height=63).even_size == (98, 64)
    assert spec().even_size == (96, 64)


def test_a_channel_has_8_or_10_bits() -> None:
    assert [spec().depth, spec(depth=10).depth] == [8, 10]
    with pytest.raises(UserError, match="a channel has 8 or 10 bits, not 12"):
        spec(depth=12)


def test_dither_has_names() -> None:
    assert [spec().dithered, spec(dither="bayer").dithered] == [False, True]
    with pytest.raises(UserError, match=r"unknown dither 'bayr'; did you mean 'bayer'\?"):
        spec(dither="bayr")
