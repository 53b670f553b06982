"""An image from outside → the first frame of a clip."""

from __future__ import annotations

import hashlib
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .arrays import FindStream, on_the_cpu, speaks, take

Pixels = NDArray[np.uint8]

MAX_BYTES = 256 << 20
MAX_PIXELS = 1 << 27
SIGNATURES = {
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "mjpeg": re.compile(rb"\xff\xd8\xff"),
    "webp": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
}
"""How files begin that FFmpeg's decoder of that name reads."""


@dataclass(frozen=True)
class Image:
    """An image, cut to a frame's size.

    Attributes:
        pixels: uint8 (height, width, 3), RGB.
        name: of its file, without folders; `None` for an array.
        sha256: of the whole file, or of the array as it was given.
    """

    pixels: Pixels
    name: str | None
    sha256: str

    def record(self) -> dict[str, Any]:
        """What tells it from others."""
        return {"name": self.name, "sha256": self.sha256}


def read_image(value: Any, width: int, height: int, find_stream: FindStream = on_the_cpu) -> Image:
    """The image at a path, or of uint8 (height, width, 3), cut to a frame of so many pixels.

    An array may be another library's; a GPU's is brought down through the stream. Transparency is
    left out. A photograph is turned as its EXIF data say, but for mirrored ones, which come out
    turned alone.

    Raises:
        UserError: neither a path nor such an array; no PNG, JPEG or WebP; damaged or too large.
    """
    if isinstance(value, (str, os.PathLike)):
        path = Path(value)
        data = _read(path)
        whole, name, digest = _decode(data, path), path.name, hashlib.sha256(data)
    else:
        whole, name = _array(value, find_stream), None
        digest = hashlib.sha256(np.ascontiguousarray(whole).tobytes())
    return Image(cover(whole, width, height), name, digest.hexdigest())


def cover(pixels: Pixels, width: int, height: int) -> Pixels:
    """Cut the largest centred part that has the frame's proportions, and scale it by Lanczos.

    This is `resize_mode="crop"` of diffusers' image processor; an image of the frame's size stays
    as it is to the last bit.
    """
    from av.video.reformatter import Interpolation, VideoReformatter

    from .video.graph import rgb_picture

    whole_height, whole_width, _ = pixels.shape
    cut_width = min(whole_width, max(1, round(whole_height * width / height)))
    cut_height = min(whole_height, max(1, round(whole_width * height / width)))
    left, top = (whole_width - cut_width) // 2, (whole_height - cut_height) // 2
    part = rgb_picture(pixels[top : top + cut_height, left : left + cut_width])
    exact = Interpolation.ACCURATE_RND | Interpolation.BITEXACT  # alike on every CPU
    scaled = VideoReformatter().reformat(
        part, width, height, interpolation=Interpolation.LANCZOS | exact
    )
    return np.asarray(scaled.to_ndarray(), np.uint8)


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise UserError(f"there is no image at {path}")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES >> 20} MB; make the image smaller")
    return data


def _decode(data: bytes, path: Path) -> Pixels:
    """Decode a file without a demuxer: by what it begins with, and nothing else is opened."""
    import av

    from .video.colour import RgbConverter

    codec = next((name for name, begin in SIGNATURES.items() if begin.match(data)), None)
    if codec is None:
        raise UserError(f"{path} is no PNG, JPEG or WebP image; convert it to one of these")
    decoder = cast("av.VideoCodecContext", av.CodecContext.create(codec, "r"))
    decoder.options = {"max_pixels": str(MAX_PIXELS), "err_detect": "explode"}
    try:
        (picture,) = [*decoder.decode(av.Packet(data)), *decoder.decode(None)]
    except (av.FFmpegError, ValueError):
        raise UserError(
            f"{path} cannot be read: it is damaged, animated, or of more than {MAX_PIXELS:,} "
            "pixels; save it again as a plain PNG"
        ) from None
    return np.rot90(RgbConverter()(picture), picture.rotation // 90)


def _array(value: Any, find_stream: FindStream) -> Pixels:
    if not speaks(value):
        raise UserError(
            f"image must be a path or a uint8 array (height, width, 3), not {type(value).__name__}"
        )
    array = take("image", value, find_stream)
    if array.dtype != "uint8" or array.shape[2:] != (3,) or 0 in array.shape:
        raise UserError(
            f"image must be uint8 (height, width, 3), not {array.dtype} {list(array.shape)}"
        )
    if math.prod(array.shape) > 3 * MAX_PIXELS:
        raise UserError(f"image has more than {MAX_PIXELS:,} pixels; make it smaller")
    return np.asarray(array)
