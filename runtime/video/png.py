"""PNG files: a frame to bytes, and text chunks (PNG, third edition, 11.3.3.4 iTXt)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from .encoders import Encoder
from .failures import codec_errors
from .graph import rgb_picture
from .sink import Frame
from .spec import ClipSpec

_SIGNATURE_AND_HEADER = 8 + 25
_MAX_TEXT = 16 << 20


class PngEncoder:
    """Turns frames of one size into whole PNG files."""

    def __init__(self, encoder: Encoder, spec: ClipSpec) -> None:
        self._context = encoder.context(spec)
        self._context.thread_count = 1  # more of them hold pictures back

    def __call__(self, frame: Frame) -> bytes:
        """Encode uint8 (height, width, 3)."""
        with codec_errors("png"):
            return b"".join(bytes(packet) for packet in self._context.encode(rgb_picture(frame)))


def with_text(png: bytes, metadata: Mapping[str, str]) -> bytes:
    """The PNG file with one iTXt chunk for each tag, after the header."""
    chunks = b"".join(_text_chunk(key, value) for key, value in metadata.items())
    return png[:_SIGNATURE_AND_HEADER] + chunks + png[_SIGNATURE_AND_HEADER:]


def read_text(stream: BinaryIO) -> dict[str, str]:
    """The uncompressed iTXt chunks before the picture, by lower-case keyword."""
    stream.seek(8)
    texts = {}
    for body in _chunks_before_picture(stream):
        keyword, _, rest = body.partition(b"\0")
        if rest[:1] == b"\0":
            text = rest[2:].split(b"\0", 2)[-1]
            texts[keyword.decode("latin-1").lower()] = text.decode("utf-8", "replace")
    return texts


def _text_chunk(key: str, value: str) -> bytes:
    body = b"iTXt" + key.capitalize().encode() + b"\0\0\0\0\0" + value.encode()
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _chunks_before_picture(stream: BinaryIO) -> Iterator[bytes]:
    while len(head := stream.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT" or size > _MAX_TEXT:
            return
        body = stream.read(size)
        stream.seek(4, 1)
        if kind == b"iTXt":
            yield body
