"""How much of a device's memory bandwidth the kernels reach, and whether they are right there."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.attention_ops import workspace_bytes
from ..kernels.device import DTYPES, DeviceArray, Stream
from ..kernels.devices import open_device
from ..kernels.distance import relative_l1
from ..kernels.frames import latent_preview, to_rgb8
from ..kernels.guidance_weights import Projected, Variant, ZeroStar, guidance_weights
from ..kernels.guided_step import guided_step, rescale_factors
from ..kernels.int8_attention import int8_attention
from ..kernels.latents import guide, hold_first, latent_frame
from ..kernels.noise import standard_normal
from ..kernels.ops import BLOCKS, MOMENTS, PRODUCTS, Ops
from ..kernels.tiles import add_tile, take_tile
from ..kernels.yuv import to_nv12, to_p010

LATENTS = (1, 16, 21, 60, 104)
FRAMES = (1, 3, 4, 480, 832)
ATTENTION = (1, 12, 32_760, 128)
"""Of Wan at 832x480x81: all latents, the frames of one latent one, and a block of 1.3B."""

COMPARED = 1000
"""Tokens whose attention is compared; NumPy would take minutes for all."""

MEMORY_BOUND = (
    "guided_step", "zero_star_weights", "projected_weights", "rescale_factors", "relative_l1",
    "latent_frame", "hold_first", "latent_preview", "take_tile", "add_tile", "rgb8", "nv12", "p010",
)  # fmt: skip
"""What waits for memory: all but noise, which is arithmetic in float64, and attention."""

SCALE, RESCALE = 5.0, 0.7
ETA, THRESHOLD = 0.3, 15.0
REPETITIONS = 20
ROUNDS = 5

Work = Callable[[], None]
Figures = dict[str, Any]


def measure() -> Figures:
    """Every kernel on the first GPU.

    Raises:
        UserError: there is none.
    """
    device = open_device()
    with device.stream() as stream:
        figures = Bandwidths(stream).all()
    return {"device": device.name, "arch": device.arch, "kernels": figures}


@dataclass(frozen=True)
class Bandwidths:
    """For each kernel what one run takes, how fast it moves its arrays, and whether it is right.

    That is microseconds; GB/s (10^9; read once, written once); the share of the time of a plain
    copy that moves as many bytes; and the largest difference from its statement.

    Attributes:
        stream: of the device.
        latents: (1, channels, frames, height, width).
        frames: (1, 3, frames, height, width), of even sides.
        attention: (batch, heads, tokens, channels), of queries, keys and values.
    """

    stream: Stream
    latents: tuple[int, ...] = LATENTS
    frames: tuple[int, ...] = FRAMES
    attention: tuple[int, int, int, int] = ATTENTION

    def all(self) -> dict[str, Figures]:
        """By name; `copy` is the ceiling, a plain copy of the frames."""
        _, _, count, height, width = self.frames
        planes = count, height // 2 * 3, width
        return {
            "copy": self._copy(),
            "noise": self._noise(),
            "guided_step": self._guided_step(),
            "zero_star_weights": self._guidance_weights(ZeroStar()),
            "projected_weights": self._guidance_weights(Projected(ETA, THRESHOLD)),
            "rescale_factors": self._rescale_factors(),
            "relative_l1": self._relative_l1(),
            "latent_frame": self._latent_frame(),
            "hold_first": self._hold_first(),
            "latent_preview": self._latent_preview(),
            "take_tile": self._take_tile(),
            "add_tile": self._add_tile(),
            "int8_attention": self._int8_attention(),
            "rgb8": self._pictures((count, height, width, 3), "uint8", Ops.to_rgb8, to_rgb8),
            "nv12": self._pictures(planes, "uint8", Ops.to_nv12, to_nv12),
            "p010": self._pictures(planes, "uint16", Ops.to_p010, to_p010),
        }

    @property
    def ops(self) -> Ops:
        """On the stream."""
        return Ops(self.stream)

    def _copy(self) -> Figures:
        moving = 2 * 4 * math.prod(self.frames)
        return _rate(moving, self._copy_microseconds(moving))

    def _noise(self) -> Figures:
        output = self._room(self.latents)
        work = partial(self.ops.standard_normal, 7, output)
        return self._measured([output], work, output, standard_normal(7, self.latents))

    def _guided_step(self) -> Figures:
        noisy, one, other = self._random(3)
        weights = np.array([[1.0, -0.03]])
        latents, told, untold = map(self.stream.upload, (noisy, one, other))
        coefficients = self.stream.upload(weights.astype(np.float32))
        output = self._room(self.latents)
        given = coefficients, latents, told, [output]
        work = partial(self.ops.guided_step, *given, unconditional=untold, scale=SCALE)
        (wanted,) = guided_step(weights, noisy, one, other, scale=SCALE)
        return self._measured([latents, told, untold, output], work, output, wanted)

    def _guidance_weights(self, variant: Variant) -> Figures:
        one, other = self._random(2)
        told, untold = self.stream.upload(one), self.stream.upload(other)
        partials, weights = self._room((1, PRODUCTS, BLOCKS)), self._room((1, 2))
        given = variant, told, untold, SCALE, partials, weights
        work = partial(self.ops.guidance_weights, *given)
        wanted = guidance_weights(variant, one, other, SCALE)
        return self._measured([told, untold], work, weights, wanted)

    def _rescale_factors(self) -> Figures:
        one, other = self._random(2)
        told, untold = self.stream.upload(one), self.stream.upload(other)
        partials, factors = self._room((1, MOMENTS, BLOCKS)), self._room((1,))
        given = told, untold, SCALE, RESCALE, partials, factors
        work = partial(self.ops.rescale_factors, *given)
        wanted = rescale_factors(one, guide(one, other, SCALE), RESCALE)
        return self._measured([told, untold], work, factors, wanted)

    def _relative_l1(self) -> Figures:
        one, other = self._random(2)
        current, previous = self.stream.upload(one), self.stream.upload(other)
        partials, distance = self._room((2, BLOCKS)), self._room((1,))
        work = partial(self.ops.relative_l1, current, previous, partials, distance)
        wanted = np.array([relative_l1(one, other)])
        return self._measured([current, previous], work, distance, wanted)

    def _latent_frame(self) -> Figures:
        (values,) = self._random(1)
        means, stds = values[0, :, 0, 0, 0], values[0, :, -1, 0, 0]
        latents, mean, std = map(self.stream.upload, (values, means, stds))
        index, output = self.latents[2] - 1, self._room(self._one_frame)
        work = partial(self.ops.latent_frame, latents, index, mean, std, output)
        return self._measured([output] * 2, work, output, latent_frame(values, index, means, stds))

    def _hold_first(self) -> Figures:
        values, other = self._random(2)
        latents, first = self.stream.upload(values), self.stream.upload(other[:, :, :1])
        work = partial(self.ops.hold_first, latents, first)
        return self._measured([first] * 2, work, latents, hold_first(values, other[:, :, :1]))

    def _latent_preview(self) -> Figures:
        values, other = self._random(2)
        weights, offsets = other[0, :, 0, 0, :3].T.copy(), other[0, 0, 0, 0, :3]
        latents, matrix, bias = map(self.stream.upload, (values, weights, offsets))
        output = self._room((*self.latents[2:], 3), "uint8")
        work = partial(self.ops.latent_preview, latents, matrix, bias, output)
        wanted = latent_preview(values, weights, offsets)
        return self._measured([latents, output], work, output, wanted)

    def _take_tile(self) -> Figures:
        """Half of each side, from a quarter on."""
        values = self._random(1)[0][:, :, :1]
        height, width = (side // 2 for side in values.shape[-2:])
        frame, place = self.stream.upload(values), (height // 2, width // 2)
        tile = self._room((*values.shape[:-2], height, width))
        work = partial(self.ops.take_tile, frame, *place, tile)
        return self._measured([tile] * 2, work, tile, take_tile(values, *place, height, width))

    def _add_tile(self) -> Figures:
        """Half of each side of decoded frames, from a quarter on."""
        values = np.random.default_rng(0).standard_normal(self.frames, np.float32)
        height, width = (side // 2 for side in self.frames[-2:])
        rows, columns = values[0, 0, 0, :height, 0].copy(), values[0, 0, 0, 0, :width].copy()
        part, place = values[..., :height, :width].copy(), (height // 2, width // 2)
        canvas, tile, down, across = map(self.stream.upload, (values, part, rows, columns))
        work = partial(self.ops.add_tile, canvas, tile, down, across, *place)
        found = self._timed([tile] * 3, work)
        self.stream.copy(self.stream.upload(values), canvas)
        work()
        add_tile(values, part, rows, columns, *place)
        return {**found, "difference": self._apart(canvas, values)}

    def _int8_attention(self) -> Figures:
        """In float16; the rate counts both products."""
        batch, heads, tokens, size = self.attention
        rng = np.random.default_rng(0)
        halves = [rng.standard_normal(self.attention, np.float32).astype(np.float16) for _ in "qkv"]
        found = self._timed(*self._attend(halves))
        short = [array[:, :, :COMPARED] for array in halves]
        (*_, output), work = self._attend(short)
        work()
        wanted = int8_attention(*(array.astype(np.float32) for array in short))
        done = 4 * batch * heads * tokens**2 * size
        return {
            **found,
            "precision": "int8+fp16",
            "tflop_s": round(done / found["microseconds"] / 1e6, 1),
            "difference": self._apart(output, wanted),
        }

    def _attend(self, halves: list[NDArray[np.float16]]) -> tuple[list[DeviceArray], Work]:
        """The arrays of queries, keys, values and output, and what computes the last."""
        queries, keys, values = map(self.stream.upload, halves)
        output = self._room(queries.shape, "float16")
        workspace = self._room((workspace_bytes(*keys.shape),), "uint8")
        arrays = [queries, keys, values, output]
        return arrays, partial(self.ops.int8_attention, queries, keys, values, workspace, output)

    def _pictures(
        self,
        shape: tuple[int, ...],
        dtype: str,
        launch: Callable[[Ops, DeviceArray, DeviceArray], None],
        statement: Callable[[NDArray[np.float32]], NDArray[Any]],
    ) -> Figures:
        values = np.random.default_rng(0).uniform(-1, 1, self.frames).astype(np.float32)
        frames, output = self.stream.upload(values), self._room(shape, dtype)
        work = partial(launch, self.ops, frames, output)
        return self._measured([frames, output], work, output, statement(values))

    @property
    def _one_frame(self) -> tuple[int, ...]:
        return (*self.latents[:2], 1, *self.latents[3:])

    def _random(self, n: int) -> list[NDArray[np.float32]]:
        rng = np.random.default_rng(0)
        return [rng.standard_normal(self.latents, np.float32) for _ in range(n)]

    def _room(self, shape: tuple[int, ...], dtype: str = "float32") -> DeviceArray:
        return self.stream.empty(shape, dtype)

    def _measured(
        self, moved: Sequence[DeviceArray], work: Work, output: DeviceArray, wanted: NDArray[Any]
    ) -> Figures:
        """Of work that gives the same however often it is done."""
        return {**self._timed(moved, work), "difference": self._apart(output, wanted)}

    def _timed(self, moved: Sequence[DeviceArray], work: Work) -> Figures:
        moving = sum(math.prod(array.shape) * DTYPES[array.dtype].itemsize for array in moved)
        spent = self._microseconds(work)
        share = self._copy_microseconds(moving) / spent
        return {**_rate(moving, spent), "share_of_copy": round(share, 3)}

    def _copy_microseconds(self, moving: int) -> float:
        """What a copy takes that reads and writes so many bytes in all."""
        source, target = (self._room((moving // 2,), "uint8") for _ in range(2))
        return self._microseconds(lambda: self.stream.copy(source, target))

    def _microseconds(self, work: Work) -> float:
        """Of one among many in a row, which a graph launches: the host has no part in it."""

        def many() -> None:
            for _ in range(REPETITIONS):
                work()

        graph = self.stream.capture(many)
        median = statistics.median(self._milliseconds(graph.launch) for _ in range(ROUNDS))
        return 1e3 * median / REPETITIONS

    def _milliseconds(self, work: Work) -> float:
        begin = self.stream.record()
        work()
        end = self.stream.record()
        end.synchronize()
        return end.milliseconds_since(begin)

    def _apart(self, found: DeviceArray, wanted: NDArray[Any]) -> float:
        values = self.stream.download(found).astype(np.float64)
        return float(np.abs(values - wanted).max())


def _rate(moving: int, microseconds: float) -> Figures:
    return {
        "microseconds": round(microseconds, 2),
        "gb_s": round(moving / microseconds / 1e3, 1),
    }
