"""A GPU's arithmetic: the kernels, on the stream of its engines.

Nothing waits but `wait` and what comes down to the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine import Tensor
from ..engine.session import on_stream
from ..kernels.device import DeviceArray, Stream
from ..kernels.ops import BLOCKS, MOMENTS, PRODUCTS, Ops
from .arithmetic import Array, Pixels, Prediction
from .device_pictures import pictures
from .tiles import Span
from .video.feed import Feed


class DeviceArithmetic:
    """Of float32 arrays in device memory."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._ops = Ops(stream)

    @property
    def memory(self) -> int:
        """The device's."""
        return self.stream.device.memory

    def array(self, values: Tensor) -> DeviceArray:
        """A copy of the host's, a device's own."""
        return on_stream(self.stream, values)

    def copy(self, array: DeviceArray) -> DeviceArray:
        """A new array."""
        output = self.stream.empty(array.shape, array.dtype)
        self.stream.copy(array, output)
        return output

    def numpy(self, array: DeviceArray) -> Array:
        """A copy."""
        return self.stream.download(array)

    def noise(self, seed: int, shape: tuple[int, ...]) -> DeviceArray:
        """Made on the device."""
        output = self._empty(shape)
        self._ops.standard_normal(seed, output)
        return output

    def stack(self, one: DeviceArray, other: DeviceArray) -> DeviceArray:
        """A copy of both."""
        both = self._empty((2, *one.shape[1:]))
        self.stream.copy(one, both.rows(0, 1))
        self.stream.copy(other, both.rows(1, 2))
        return both

    def halves(self, both: DeviceArray) -> tuple[DeviceArray, DeviceArray]:
        """Views."""
        return both.rows(0, 1), both.rows(1, 2)

    def join(self, one: DeviceArray, other: DeviceArray) -> DeviceArray:
        """A copy of both."""
        channels = one.shape[1], one.shape[1] + other.shape[1]
        both = self._empty((channels[1], *one.shape[2:]))
        self.stream.copy(one.reshape(one.shape[1:]), both.rows(0, channels[0]))
        self.stream.copy(other.reshape(other.shape[1:]), both.rows(*channels))
        return both.reshape((1, *both.shape))

    def step(
        self,
        coefficients: NDArray[np.float64] | DeviceArray,
        latents: DeviceArray,
        prediction: Prediction[DeviceArray],
        history: Sequence[DeviceArray],
    ) -> tuple[DeviceArray, ...]:
        """One kernel, two more where guidance has weights, two where it is rescaled; new arrays."""
        if isinstance(coefficients, np.ndarray):
            coefficients = self.stream.upload(coefficients.astype(np.float32))
        outputs = tuple(self._empty(latents.shape) for _ in range(coefficients.shape[0]))
        weights = self._guidance_weights(prediction)
        self._ops.guided_step(
            coefficients,
            latents,
            prediction.conditional,
            outputs,
            unconditional=prediction.unconditional,
            scale=prediction.scale,
            weights=weights,
            factors=self._rescale_factors(prediction, weights),
            history=history,
        )
        return outputs

    def _guidance_weights(self, prediction: Prediction[DeviceArray]) -> DeviceArray | None:
        one, other, variant = prediction.conditional, prediction.unconditional, prediction.variant
        if other is None or variant is None:
            return None
        batch = one.shape[0]
        partials, weights = self._empty((batch, PRODUCTS, BLOCKS)), self._empty((batch, 2))
        self._ops.guidance_weights(variant, one, other, prediction.scale, partials, weights)
        return weights

    def _rescale_factors(
        self, prediction: Prediction[DeviceArray], weights: DeviceArray | None
    ) -> DeviceArray | None:
        one, other = prediction.conditional, prediction.unconditional
        if other is None or not prediction.rescale:
            return None
        batch = one.shape[0]
        partials, factors = self._empty((batch, MOMENTS, BLOCKS)), self._empty((batch,))
        self._ops.rescale_factors(
            one, other, prediction.scale, prediction.rescale, partials, factors, weights
        )
        return factors

    def relative_l1(self, pairs: Sequence[tuple[DeviceArray, DeviceArray]]) -> Array:
        """Two kernels a pair; fetched together, and waited for once."""
        partials, distances = self._empty((2, BLOCKS)), self._empty((len(pairs),))
        for index, (current, previous) in enumerate(pairs):
            distance = distances.rows(index, index + 1)
            self._ops.relative_l1(current, previous, partials, distance)
        return self.stream.fetch(distances)()

    def hold(self, latents: DeviceArray, first: DeviceArray) -> DeviceArray:
        """The latents themselves, changed."""
        self._ops.hold_first(latents, first)
        return latents

    def latent_frame(
        self, latents: DeviceArray, index: int, mean: DeviceArray, std: DeviceArray
    ) -> DeviceArray:
        """A new array."""
        batch, channels, _, *picture = latents.shape
        output = self._empty((batch, channels, 1, *picture))
        self._ops.latent_frame(latents, index, mean, std, output)
        return output

    def zeros(self, shape: tuple[int, ...]) -> DeviceArray:
        """Made on the device."""
        output = self._empty(shape)
        self.stream.clear(output)
        return output

    def take_tile(self, frame: DeviceArray, row: Span, column: Span) -> DeviceArray:
        """A new array."""
        tile = self._empty((*frame.shape[:-2], row.length, column.length))
        self._ops.take_tile(frame, row.start, column.start, tile)
        return tile

    def add_tile(
        self,
        canvas: DeviceArray,
        tile: DeviceArray,
        down: DeviceArray,
        across: DeviceArray,
        row: int,
        column: int,
    ) -> None:
        """In the canvas."""
        self._ops.add_tile(canvas, tile, down, across, row, column)

    def rgb8(self, frames: DeviceArray) -> DeviceArray:
        """Made on the device."""
        _, _, count, height, width = frames.shape
        output = self.stream.empty((count, height, width, 3), "uint8")
        self._ops.to_rgb8(frames, output)
        return output

    def pictures(self, decoded: Iterable[DeviceArray], feed: Feed) -> Iterator[Any]:
        """Made on the device, fetched once or left there; one latent frame ahead."""
        return pictures(self.stream, decoded, feed)

    def preview(self, latents: DeviceArray, matrix: DeviceArray, bias: DeviceArray) -> Pixels:
        """Made on the device, copied once."""
        output = self.stream.empty((*latents.shape[2:], 3), "uint8")
        self._ops.latent_preview(latents, matrix, bias, output)
        return self.stream.download(output)

    def wait(self) -> None:
        """Wait for the stream."""
        self.stream.synchronize()

    def _empty(self, shape: Sequence[int]) -> DeviceArray:
        return self.stream.empty(shape, "float32")
