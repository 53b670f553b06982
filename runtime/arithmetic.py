"""What is computed between the engines of a clip, where their arrays lie: on the host or on a GPU.

The two do the same, bit for bit. What a GPU holds stays there but for what `numpy` and the pictures
bring down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..engine import Tensor
from ..engine.memory import machine_memory
from ..kernels.device import Stream
from ..kernels.distance import relative_l1
from ..kernels.frames import latent_preview, to_rgb8
from ..kernels.guidance_weights import Variant
from ..kernels.guided_step import guided_step
from ..kernels.latents import hold_first, latent_frame
from ..kernels.noise import standard_normal
from ..kernels.tiles import add_tile, take_tile
from ..kernels.yuv import to_nv12, to_p010
from .tiles import Span
from .video.feed import RGB, Feed

A = TypeVar("A")
Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction(Generic[A]):
    """What the denoiser says of some latents; all arrays are of their shape.

    Attributes:
        conditional: the velocity under the prompt.
        unconditional: the one it is guided away from; `None` takes `conditional` as it is.
        scale: the guidance scale.
        rescale: how far the guided velocity gets the spread of the conditional one, 0 to 1.
        variant: weighs the two by what they are; `None` for plain guidance.
        foretold: told from earlier ones, without the denoiser.
    """

    conditional: A
    unconditional: A | None = None
    scale: float = 1.0
    rescale: float = 0.0
    variant: Variant | None = None
    foretold: bool = False


class Arithmetic(Protocol[A]):
    """On arrays of one kind; float32 but for pictures, latents (1, channels, frames, h, w)."""

    @property
    def memory(self) -> int:
        """Bytes of memory that there are, free or not, where the arrays lie."""

    def array(self, values: Tensor) -> A:
        """Values where the others lie; there already, the array itself."""

    def copy(self, array: A) -> A:
        """A new array of the same values."""

    def numpy(self, array: A) -> Array:
        """The values on the host."""

    def noise(self, seed: int, shape: tuple[int, ...]) -> A:
        """The same for a seed everywhere: `kernels.noise.standard_normal`."""

    def stack(self, one: A, other: A) -> A:
        """Two arrays of batch 1 as one of batch 2."""

    def halves(self, both: A) -> tuple[A, A]:
        """The inverse."""

    def join(self, one: A, other: A) -> A:
        """Two arrays of batch 1, the channels of the second behind those of the first."""

    def step(
        self,
        coefficients: NDArray[np.float64] | A,
        latents: A,
        prediction: Prediction[A],
        history: Sequence[A],
    ) -> tuple[A, ...]:
        """Guidance and a scheduler's step: `kernels.guided_step.guided_step`; into new arrays.

        Coefficients are the host's, or lie where the others do, in float32.
        """

    def relative_l1(self, pairs: Sequence[tuple[A, A]]) -> Array:
        """How far apart the arrays of each pair are: `kernels.distance.relative_l1`, on the host.

        Of a pair the second is what the distance is relative to.
        """

    def hold(self, latents: A, first: A) -> A:
        """Latents with their first frame replaced; the given ones may be overwritten."""

    def latent_frame(self, latents: A, index: int, mean: A, std: A) -> A:
        """One frame, as the VAE's decoder takes it: (1, channels, 1, h, w), denormalized."""

    def zeros(self, shape: tuple[int, ...]) -> A:
        """An array of zeros."""

    def take_tile(self, frame: A, row: Span, column: Span) -> A:
        """A tile of a latent frame: `kernels.tiles.take_tile`."""

    def add_tile(self, canvas: A, tile: A, down: A, across: A, row: int, column: int) -> None:
        """A decoded tile added to its place: `kernels.tiles.add_tile`."""

    def rgb8(self, frames: A) -> Any:
        """Decoded frames (1, 3, frames, height, width), there: uint8 (frames, height, width, 3)."""

    def pictures(self, decoded: Iterable[A], feed: Feed) -> Iterator[Any]:
        """Decoded frames, as `rgb8` takes them, as many pictures as frames, as the feed says."""

    def preview(self, latents: A, matrix: A, bias: A) -> Pixels:
        """A thumbnail of each latent frame on the host, (frames, h, w, 3)."""

    def wait(self) -> None:
        """Wait until all that was begun is done."""


class HostArithmetic:
    """NumPy's."""

    @property
    def memory(self) -> int:
        """The machine's."""
        return machine_memory()

    def array(self, values: Tensor) -> Array:
        """The values themselves."""
        return np.asarray(values)

    def copy(self, array: Array) -> Array:
        """A new array."""
        return array.copy()

    def numpy(self, array: Array) -> Array:
        """The array itself."""
        return array

    def noise(self, seed: int, shape: tuple[int, ...]) -> Array:
        """Drawn from the seed."""
        return standard_normal(seed, shape)

    def stack(self, one: Array, other: Array) -> Array:
        """A copy of both."""
        return np.concatenate([one, other])

    def halves(self, both: Array) -> tuple[Array, Array]:
        """Views."""
        return both[:1], both[1:]

    def join(self, one: Array, other: Array) -> Array:
        """A copy of both."""
        return np.concatenate([one, other], axis=1)

    def step(
        self,
        coefficients: NDArray[Any],
        latents: Array,
        prediction: Prediction[Array],
        history: Sequence[Array],
    ) -> tuple[Array, ...]:
        """New arrays."""
        return guided_step(
            coefficients,
            latents,
            prediction.conditional,
            prediction.unconditional,
            prediction.scale,
            prediction.rescale,
            history,
            prediction.variant,
        )

    def relative_l1(self, pairs: Sequence[tuple[Array, Array]]) -> Array:
        """NumPy's."""
        return np.array([relative_l1(*pair) for pair in pairs])

    def hold(self, latents: Array, first: Array) -> Array:
        """A new array."""
        return hold_first(latents, first)

    def latent_frame(self, latents: Array, index: int, mean: Array, std: Array) -> Array:
        """A new array."""
        return latent_frame(latents, index, mean, std)

    def zeros(self, shape: tuple[int, ...]) -> Array:
        """A new array."""
        return np.zeros(shape, np.float32)

    def take_tile(self, frame: Array, row: Span, column: Span) -> Array:
        """A new array."""
        return take_tile(frame, row.start, column.start, row.length, column.length)

    def add_tile(
        self, canvas: Array, tile: Array, down: Array, across: Array, row: int, column: int
    ) -> None:
        """In the canvas."""
        add_tile(canvas, tile, down, across, row, column)

    def rgb8(self, frames: Array) -> Pixels:
        """A new array."""
        return to_rgb8(frames)

    def pictures(self, decoded: Iterable[Array], feed: Feed) -> Iterator[Any]:
        """New arrays."""
        if feed.layout == RGB.layout:
            return map(self.rgb8, decoded)
        make: Callable[..., NDArray[Any]] = to_p010 if feed.layout == "p010le" else to_nv12

        def codes(frames: Array) -> list[NDArray[Any]]:
            single = (frames[:, :, [index]] for index in range(frames.shape[2]))
            return [make(frame, dithered=feed.dithered)[0] for frame in single]

        return map(codes, decoded)

    def preview(self, latents: Array, matrix: Array, bias: Array) -> Pixels:
        """A new array."""
        return latent_preview(latents, matrix, bias)

    def wait(self) -> None:
        """All is done already."""


def arithmetic_on(stream: Stream | None) -> Arithmetic[Any]:
    """A GPU's, on the stream that its engines work on; NumPy's without one."""
    if stream is None:
        return HostArithmetic()
    from .device_arithmetic import DeviceArithmetic

    return DeviceArithmetic(stream)
