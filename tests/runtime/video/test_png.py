from __future__ import annotations

import io
import struct
import zlib

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutoscope.runtime.video.encoders import ENCODERS
from mutoscope.runtime.video.png import PngEncoder, read_text, with_text
from mutoscope.runtime.video.spec import ClipSpec

SPEC = ClipSpec.checked(width=7, height=5, fps=1, frames=1)


@pytest.fixture(scope="module")
def png() -> bytes:
    frame = np.arange(105, dtype=np.uint8).reshape(5, 7, 3)
    return PngEncoder(ENCODERS["png"], SPEC)(frame)


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Every chunk's kind and body, its checksum compared."""
    found, offset = [], 8
    while offset < len(png):
        size, kind = struct.unpack_from(">I4s", png, offset)
        body = png[offset + 8 : offset + 8 + size]
        (check,) = struct.unpack_from(">I", png, offset + 8 + size)
        assert check == zlib.crc32(kind + body)
        found.append((kind, body))
        offset += 12 + size
    return found


def test_text_lies_between_header_and_picture(png: bytes) -> None:
    written = with_text(png, {"title": "é", "comment": "{}"})
    assert [kind for kind, _ in chunks(written)][:3] == [b"IHDR", b"iTXt", b"iTXt"]
    assert chunks(written)[1][1] == b"Title\0\0\0\0\0\xc3\xa9"
    assert chunks(written)[-1] == (b"IEND", b"")
    assert [c for c in chunks(written) if c[0] != b"iTXt"] == chunks(png)


def test_pictures_are_exact(png: bytes) -> None:
    with av.open(io.BytesIO(with_text(png, {"title": "x"})), "r", format="png_pipe") as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.array_equal(frame, np.arange(105, dtype=np.uint8).reshape(5, 7, 3))


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,20}", fullmatch=True), TEXT))
def test_text_comes_back(texts: dict[str, str]) -> None:
    png = PngEncoder(ENCODERS["png"], SPEC)(np.zeros((5, 7, 3), np.uint8))
    assert read_text(io.BytesIO(with_text(png, texts))) == texts


def test_other_text_is_passed_over(png: bytes) -> None:
    """Compressed text, plain tEXt and damaged lengths are not read."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + bytes(4)

    compressed = chunk(b"iTXt", b"Title\0\1\0\0\0" + zlib.compress(b"x"))
    plain = chunk(b"tEXt", b"Title\0x")
    good = chunk(b"iTXt", b"Comment\0\0\0\0\0yes")
    huge = struct.pack(">I", 1 << 31) + b"iTXt"
    data = png[:33] + compressed + plain + good + huge + png[33:]
    assert read_text(io.BytesIO(data)) == {"comment": "yes"}


@given(st.binary())
def test_any_bytes_are_read_quietly(data: bytes) -> None:
    assert isinstance(read_text(io.BytesIO(data)), dict)
