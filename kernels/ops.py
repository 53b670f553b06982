"""The kernels' launchers: on a device, what the NumPy statements say, into arrays that are there.

Nothing is allocated and nothing waits, so that a graph can be recorded of any of them. All arrays
are in C order without gaps; floats are float32, float16 or bfloat16, in float32 between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .checks import expect, expect_array, floats, same_dtype, same_shape
from .device import Argument, DeviceArray, Stream

# As in elements.cuh and sums.cuh.
ELEMENTS_A_BLOCK = 256 * 8
BLOCKS = 256
MOMENTS = 4
MAX_HISTORY, MAX_OUTPUTS = 3, 4


class Ops:
    """The operations between the engines, on one stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def guided_step(
        self,
        coefficients: DeviceArray,
        latents: DeviceArray,
        conditional: DeviceArray,
        outputs: Sequence[DeviceArray],
        *,
        unconditional: DeviceArray | None = None,
        scale: float = 1.0,
        factors: DeviceArray | None = None,
        history: Sequence[DeviceArray] = (),
    ) -> None:
        """`kernels.guided_step.guided_step`.

        Args:
            coefficients: float32 (outputs, 2 + length of the history).
            latents: (batch, …); a float32 one goes with predictions of any type, others with
                predictions of their own.
            conditional: of the latents' shape, as are all that follow but the factors.
            outputs: up to 4, of the latents' type; may be arrays of the inputs.
            unconditional: of the conditional prediction's type; `None` for no guidance.
            scale: the guidance scale.
            factors: float32 (batch,), what `rescale_factors` left.
            history: up to 3, of the latents' type.
        """
        alike = [latents, *history, *outputs]
        predictions = [conditional, *([unconditional] if unconditional else [])]
        same_shape("guided_step", [*alike, *predictions])
        same_dtype("guided_step", alike)
        same_dtype("guided_step", predictions)
        expect(
            len(history) <= MAX_HISTORY and 1 <= len(outputs) <= MAX_OUTPUTS,
            f"guided_step: at most {MAX_HISTORY} arrays of history and {MAX_OUTPUTS} outputs",
        )
        expect_array("coefficients", coefficients, (len(outputs), 2 + len(history)))
        if factors:
            expect_array("factors", factors, latents.shape[:1])
        expect(
            latents.dtype in ("float32", conditional.dtype),
            f"guided_step: no kernel for {conditional.dtype} predictions, {latents.dtype} latents",
        )
        count = math.prod(latents.shape[1:])
        self.stream.launch(
            "guided_step",
            f"guided_step_{conditional.dtype}_{latents.dtype}",
            (_blocks(count), latents.shape[0]),
            [
                conditional, unconditional, np.float32(scale), factors,
                latents, *_filled(history, MAX_HISTORY), np.int32(len(history)),
                coefficients, *_filled(outputs, MAX_OUTPUTS), np.int32(len(outputs)),
                np.int64(count),
            ],
        )  # fmt: skip

    def rescale_factors(
        self,
        conditional: DeviceArray,
        unconditional: DeviceArray,
        scale: float,
        rescale: float,
        partials: DeviceArray,
        factors: DeviceArray,
    ) -> None:
        """`kernels.guided_step.rescale_factors`, of the prediction guided by `scale`.

        Args:
            conditional: (batch, …).
            unconditional: of the same shape and type.
            scale: the guidance scale.
            rescale: 0 to 1.
            partials: float32 (batch, 4, 256), to work in.
            factors: float32 (batch,), the result.
        """
        same_shape("rescale_factors", [conditional, unconditional])
        same_dtype("rescale_factors", [conditional, unconditional])
        batch, count = conditional.shape[0], math.prod(conditional.shape[1:])
        expect_array("partials", partials, (batch, MOMENTS, BLOCKS))
        expect_array("factors", factors, (batch,))
        self.stream.launch(
            "guided_step",
            f"guidance_moments_{floats(conditional)}",
            (BLOCKS, batch),
            [conditional, unconditional, np.float32(scale), np.int64(count), partials],
        )
        self.stream.launch(
            "guided_step",
            "guidance_factor",
            (batch, 1),
            [partials, np.float32(rescale), np.int64(count), factors],
        )

    def standard_normal(
        self, seed: int, output: DeviceArray, *, stream: int = 0, start: int = 0
    ) -> None:
        """`kernels.noise.standard_normal_range` from `start` on, as many as the output holds.

        Args:
            seed: 0 ≤ seed < 2**64, as are
            stream: an independent sequence of the same seed, and
            start: the first element's number.
            output: filled in C order.
        """
        count = math.prod(output.shape)
        expect(
            min(seed, stream, start) >= 0 and max(seed, stream, start + count) < 2**64,
            "standard_normal: seed, stream and elements are numbered from 0 to 2**64 - 1",
        )
        self.stream.launch(
            "noise",
            f"noise_{floats(output)}",
            (_blocks(count + start % 8), 1),
            [np.uint64(seed), np.uint64(stream), np.uint64(start), np.int64(count), output],
        )

    def relative_l1(
        self,
        current: DeviceArray,
        previous: DeviceArray,
        partials: DeviceArray,
        distance: DeviceArray,
    ) -> None:
        """`kernels.distance.relative_l1`.

        Args:
            current: of any shape.
            previous: of the same shape and type.
            partials: float32 (2, 256), to work in.
            distance: float32 (1,), the result.
        """
        same_shape("relative_l1", [current, previous])
        same_dtype("relative_l1", [current, previous])
        expect_array("partials", partials, (2, BLOCKS))
        expect_array("distance", distance, (1,))
        count = np.int64(math.prod(current.shape))
        kernel = f"distance_partials_{floats(current)}"
        self.stream.launch("distance", kernel, (BLOCKS, 1), [current, previous, count, partials])
        self.stream.launch("distance", "distance_quotient", (1, 1), [partials, distance])

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
            (_blocks(pixels), 1),
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
            (_blocks(pixels), count),
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

    def to_p010(self, frames: DeviceArray, output: DeviceArray) -> None:
        """`kernels.yuv.to_p010`; as `to_nv12`, with a uint16 output."""
        self._to_yuv("p010", frames, output, "uint16", dithered=False)

    def _to_yuv(
        self, name: str, frames: DeviceArray, output: DeviceArray, dtype: str, dithered: bool
    ) -> None:
        _, _, count, height, width = frames.shape
        rows, columns = height + height % 2, width + width % 2
        expect_array("output", output, (count, rows // 2 * 3, columns), dtype)
        threads = {"luma": rows * -(-columns // 8), "chroma": rows // 2 * (columns // 2)}
        arguments: list[Argument] = [
            frames, *_strides(frames), np.int32(width), np.int32(height), np.int32(dithered),
            output,
        ]  # fmt: skip
        for part, needed in threads.items():
            kernel = f"frames_{name}_{part}_{floats(frames)}"
            self.stream.launch("frames", kernel, (_blocks(8 * needed), count), arguments)


def _blocks(elements: int) -> int:
    return max(1, -(-elements // ELEMENTS_A_BLOCK))


def _strides(frames: DeviceArray) -> tuple[np.int64, np.int64]:
    """Elements from a channel, and from a frame, to the next."""
    _, _, count, height, width = frames.shape
    return np.int64(count * height * width), np.int64(height * width)


def _filled(arrays: Sequence[DeviceArray], length: int) -> list[DeviceArray | None]:
    return [*arrays, *[None] * (length - len(arrays))]
