"""The launchers of what makes pictures; `ops.py` says what holds for all of them."""

from __future__ import annotations

import math

import numpy as np

from .checks import expect_array, floats
from .device import Argument, DeviceArray, Stream

ELEMENTS_A_BLOCK = 256 * 8  # as in elements.cuh


class PictureOps:
    """Latents and decoded frames, as pictures."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def latent_preview(
        self, latents: DeviceArray, matrix: DeviceArray, bias: DeviceArray, output: DeviceArray
    ) -> None:
        """`kernels.frames.latent_preview`.

        Args:
            latents: (1, channels, frames, height, width).
            matrix: float32 (3, channels).
            bias: float32 (3,).
            output: uint8 (frames, height, width, 3).
        """
        _, channels, *picture = latents.shape
        expect_array("matrix", matrix, (3, channels))
        expect_array("bias", bias, (3,))
        expect_array("output", output, (*picture, 3), "uint8")
        pixels = math.prod(picture)
        self.stream.launch(
            "latent_preview",
            f"latent_preview_{floats(latents)}",
            (blocks(pixels), 1),
            [latents, matrix, bias, np.int32(channels), np.int64(pixels), output],
        )

    def to_rgb8(self, frames: DeviceArray, output: DeviceArray) -> None:
        """`kernels.frames.to_rgb8`.

        Args:
            frames: (1, 3, frames, height, width), in [-1, 1].
            output: uint8 (frames, height, width, 3).
        """
        _, _, count, height, width = frames.shape
        expect_array("output", output, (count, height, width, 3), "uint8")
        pixels = height * width
        self.stream.launch(
            "frames",
            f"frames_rgb8_{floats(frames)}",
            (blocks(pixels), count),
            [frames, *_strides(frames), np.int64(pixels), output],
        )

    def to_nv12(self, frames: DeviceArray, output: DeviceArray, *, dithered: bool = False) -> None:
        """`kernels.yuv.to_nv12`.

        Args:
            frames: (1, 3, frames, height, width), in [-1, 1].
            output: uint8 (frames, height / 2 * 3, width), sides rounded up to even ones.
            dithered: round by a pattern.
        """
        self._to_yuv("nv12", frames, output, "uint8", dithered)

    def to_p010(self, frames: DeviceArray, output: DeviceArray, *, dithered: bool = False) -> None:
        """`kernels.yuv.to_p010`; as `to_nv12`, with a uint16 output."""
        self._to_yuv("p010", frames, output, "uint16", dithered)

    def _to_yuv(
        self, name: str, frames: DeviceArray, output: DeviceArray, dtype: str, dithered: bool
    ) -> None:
        _, _, count, height, width = frames.shape
        rows, columns = height + height % 2, width + width % 2
        expect_array("output", output, (count, rows // 2 * 3, columns), dtype)
        pieces = -(-columns // 8)
        arguments: list[Argument] = [
            frames, *_strides(frames), np.int32(width), np.int32(height), np.int32(dithered),
            output,
        ]  # fmt: skip
        for part, lines in ("luma", rows), ("chroma", rows // 2):
            kernel = f"frames_{name}_{part}_{floats(frames)}"
            self.stream.launch("frames", kernel, (blocks(8 * lines * pieces), count), arguments)


def blocks(elements: int) -> int:
    """How many blocks take so many elements, eight a thread."""
    return max(1, -(-elements // ELEMENTS_A_BLOCK))


def _strides(frames: DeviceArray) -> tuple[np.int64, np.int64]:
    """Elements from a channel, and from a frame, to the next."""
    _, _, count, height, width = frames.shape
    return np.int64(count * height * width), np.int64(height * width)
