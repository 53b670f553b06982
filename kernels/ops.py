"""The kernels' launchers: on a device, what the NumPy statements say, into arrays that are there.

Nothing is allocated and nothing waits, so that a graph can be recorded of any of them. All arrays
are in C order without gaps; floats are float32, float16 or bfloat16, in float32 between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .attention_ops import AttentionOps
from .checks import expect, expect_array, floats, same_dtype, same_shape
from .device import Argument, DeviceArray
from .guidance_weights import Variant, ZeroStar
from .picture_ops import PictureOps, blocks

BLOCKS = 256  # as in sums.cuh
MOMENTS = 4
PRODUCTS = 5  # as in guidance_weights.cu
MAX_HISTORY, MAX_OUTPUTS = 3, 4


class Ops(PictureOps, AttentionOps):
    """The operations between the engines, on one stream."""

    def guided_step(
        self,
        coefficients: DeviceArray,
        latents: DeviceArray,
        conditional: DeviceArray,
        outputs: Sequence[DeviceArray],
        *,
        unconditional: DeviceArray | None = None,
        scale: float = 1.0,
        weights: DeviceArray | None = None,
        factors: DeviceArray | None = None,
        history: Sequence[DeviceArray] = (),
    ) -> None:
        """`kernels.guided_step.guided_step`.

        Args:
            coefficients: float32 (outputs, 2 + length of the history).
            latents: (batch, …); a float32 one goes with predictions of any type, others with
                predictions of their own.
            conditional: of the latents' shape, as are all that follow but weights and factors.
            outputs: up to 4, of the latents' type; may be arrays of the inputs.
            unconditional: of the conditional prediction's type; `None` for no guidance.
            scale: the guidance scale.
            weights: float32 (batch, 2), what `guidance_weights` left; it knows the scale.
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
        if weights:
            expect_array("weights", weights, (latents.shape[0], 2))
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
            (blocks(count), latents.shape[0]),
            [
                conditional, unconditional, np.float32(scale), weights, factors,
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
        weights: DeviceArray | None = None,
    ) -> None:
        """`kernels.guided_step.rescale_factors`, of the guided prediction.

        Args:
            conditional: (batch, …).
            unconditional: of the same shape and type.
            scale: the guidance scale.
            rescale: 0 to 1.
            partials: float32 (batch, 4, 256), to work in.
            factors: float32 (batch,), the result.
            weights: as in `guided_step`.
        """
        same_shape("rescale_factors", [conditional, unconditional])
        same_dtype("rescale_factors", [conditional, unconditional])
        batch, count = conditional.shape[0], math.prod(conditional.shape[1:])
        expect_array("partials", partials, (batch, MOMENTS, BLOCKS))
        expect_array("factors", factors, (batch,))
        if weights:
            expect_array("weights", weights, (batch, 2))
        self.stream.launch(
            "guided_step",
            f"guidance_moments_{floats(conditional)}",
            (BLOCKS, batch),
            [conditional, unconditional, np.float32(scale), weights, np.int64(count), partials],
        )
        self.stream.launch(
            "guided_step",
            "guidance_factor",
            (batch, 1),
            [partials, np.float32(rescale), np.int64(count), factors],
        )

    def guidance_weights(
        self,
        variant: Variant,
        conditional: DeviceArray,
        unconditional: DeviceArray,
        scale: float,
        partials: DeviceArray,
        weights: DeviceArray,
    ) -> None:
        """`kernels.guidance_weights.guidance_weights`.

        Args:
            variant: of guidance.
            conditional: (batch, …).
            unconditional: of the same shape and type.
            scale: the guidance scale.
            partials: float32 (batch, 5, 256), to work in.
            weights: float32 (batch, 2), the result.
        """
        same_shape("guidance_weights", [conditional, unconditional])
        same_dtype("guidance_weights", [conditional, unconditional])
        batch, count = conditional.shape[0], math.prod(conditional.shape[1:])
        expect_array("partials", partials, (batch, PRODUCTS, BLOCKS))
        expect_array("weights", weights, (batch, 2))
        self.stream.launch(
            "guidance_weights",
            f"guidance_products_{floats(conditional)}",
            (BLOCKS, batch),
            [conditional, unconditional, np.int64(count), partials],
        )
        numbers = [] if isinstance(variant, ZeroStar) else [variant.eta, variant.norm_threshold]
        self.stream.launch(
            "guidance_weights",
            "zero_star_weights" if isinstance(variant, ZeroStar) else "projected_weights",
            (batch, 1),
            [partials, np.float32(scale), *map(np.float32, numbers), weights],
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
            (blocks(count + start % 8), 1),
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

    def latent_frame(
        self,
        latents: DeviceArray,
        index: int,
        mean: DeviceArray,
        std: DeviceArray,
        output: DeviceArray,
    ) -> None:
        """`kernels.latents.latent_frame`.

        Args:
            latents: (1, channels, frames, height, width).
            index: of the frame, from 0.
            mean: float32 (channels,).
            std: float32 (channels,).
            output: (1, channels, 1, height, width), of the latents' type.
        """
        _, channels, frames, *_ = latents.shape
        expect_array("mean", mean, (channels,))
        expect_array("std", std, (channels,))
        _expect_frame(latents, index, output)
        arguments: list[Argument] = [
            latents, mean, std, np.int32(frames), np.int32(index), _pixels(output), output
        ]  # fmt: skip
        self._for_each_channel("latent_frame_take", output, arguments)

    def hold_first(self, latents: DeviceArray, first: DeviceArray) -> None:
        """`kernels.latents.hold_first`, in the latents themselves.

        Args:
            latents: (1, channels, frames, height, width).
            first: (1, channels, 1, height, width), of the latents' type.
        """
        _expect_frame(latents, 0, first)
        arguments: list[Argument] = [first, np.int32(latents.shape[2]), _pixels(first), latents]
        self._for_each_channel("latent_frame_hold", first, arguments)

    def take_tile(self, frame: DeviceArray, row: int, column: int, tile: DeviceArray) -> None:
        """`kernels.tiles.take_tile`.

        Args:
            frame: (…, rows, columns).
            row: where the tile begins, and
            column: likewise.
            tile: (…, height, width), the result, of the frame's type.
        """
        arguments: list[Argument] = [frame, *_place(frame, tile, row, column), tile]
        self.stream.launch("tiles", f"tiles_take_{tile.dtype}", _grid(tile), arguments)

    def add_tile(
        self,
        canvas: DeviceArray,
        tile: DeviceArray,
        down: DeviceArray,
        across: DeviceArray,
        row: int,
        column: int,
    ) -> None:
        """`kernels.tiles.add_tile`.

        Args:
            canvas: (…, rows, columns).
            tile: (…, height, width), of the canvas's type.
            down: float32 (height,).
            across: float32 (width,).
            row: of the canvas, where the tile's first lies, and
            column: likewise.
        """
        expect_array("down", down, tile.shape[-2:-1])
        expect_array("across", across, tile.shape[-1:])
        place = _place(canvas, tile, row, column)
        arguments: list[Argument] = [tile, down, across, *place, canvas]
        self.stream.launch("tiles", f"tiles_add_{tile.dtype}", _grid(tile), arguments)

    def _for_each_channel(
        self, kernel: str, frame: DeviceArray, arguments: Sequence[Argument]
    ) -> None:
        grid = (blocks(int(_pixels(frame))), frame.shape[1])
        self.stream.launch("latent_frame", f"{kernel}_{frame.dtype}", grid, arguments)


def _expect_frame(latents: DeviceArray, index: int, frame: DeviceArray) -> None:
    _, channels, frames, height, width = latents.shape
    expect(0 <= index < frames, f"there is no latent frame {index} of {frames}")
    expect_array("latents", latents, (1, channels, frames, height, width), floats(latents))
    expect_array("frame", frame, (1, channels, 1, height, width), latents.dtype)


def _place(whole: DeviceArray, tile: DeviceArray, row: int, column: int) -> list[np.int32]:
    """Rows and columns of the whole, the tile's place in it, and its own height and width."""
    *planes, rows, columns = whole.shape
    height, width = tile.shape[-2:]
    expect_array("tile", tile, (*planes, height, width), floats(whole))
    expect(
        0 <= row <= rows - height and 0 <= column <= columns - width,
        f"a tile of {height}x{width} at {row}, {column} is not within {rows}x{columns}",
    )
    return [np.int32(number) for number in (rows, columns, row, column, height, width)]


def _grid(tile: DeviceArray) -> tuple[int, int]:
    """A thread for every eight neighbours in a row of a plane."""
    *planes, height, width = tile.shape
    return blocks(height * -(-width // 8) * 8), math.prod(planes)


def _pixels(frame: DeviceArray) -> np.int64:
    return np.int64(math.prod(frame.shape[3:]))


def _filled(arrays: Sequence[DeviceArray], length: int) -> list[DeviceArray | None]:
    return [*arrays, *[None] * (length - len(arrays))]
