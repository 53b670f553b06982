"""How much of a device's memory bandwidth the kernels reach, and whether they are right there."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.attention_ops import workspace_bytes
from ..kernels.device import DTYPES, DeviceArray, Stream
from ..kernels.devices import open_device
from ..kernels.distance import relative_l1
from ..kernels.frames import to_rgb8
from ..kernels.guided_step import guided_step
from ..kernels.int8_attention import int8_attention
from ..kernels.noise import standard_normal
from ..kernels.ops import BLOCKS, Ops
from ..kernels.yuv import to_nv12

LATENTS = (1, 16, 21, 60, 104)
FRAMES = (1, 3, 4, 480, 832)
ATTENTION = (1, 12, 32_760, 128)
"""Of Wan at 832x480x81: all latents, the frames of one latent one, and a block of 1.3B."""

COMPARED = 1000
"""Tokens whose attention is compared; NumPy would take minutes for all."""

REPETITIONS = 20

Work = Callable[[], None]


def measure() -> dict[str, Any]:
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
    """For each kernel microseconds, GB/s (10^9; read once, written once), and largest difference.

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

    def all(self) -> dict[str, dict[str, float]]:
        """By name; `copy` is the ceiling, a plain copy of the frames."""
        _, _, count, height, width = self.frames
        return {
            "copy": self._copy(),
            "noise": self._noise(),
            "guided_step": self._guided_step(),
            "relative_l1": self._relative_l1(),
            "int8_attention": self._int8_attention(),
            "rgb8": self._pictures((count, height, width, 3), Ops.to_rgb8, to_rgb8),
            "nv12": self._pictures((count, height // 2 * 3, width), Ops.to_nv12, to_nv12),
        }

    def _copy(self) -> dict[str, float]:
        source = self.stream.upload(np.zeros(self.frames, np.float32))
        target = self._room(self.frames)
        return self._rate([source, target], lambda: self.stream.copy(source, target))

    def _noise(self) -> dict[str, float]:
        output = self._room(self.latents)
        found = self._rate([output], lambda: Ops(self.stream).standard_normal(7, output))
        return {**found, "difference": self._apart(output, standard_normal(7, self.latents))}

    def _guided_step(self) -> dict[str, float]:
        noisy, one, other = self._random(3)
        weights = np.array([[1.0, -0.03]])
        latents, told, untold = map(self.stream.upload, (noisy, one, other))
        coefficients = self.stream.upload(weights.astype(np.float32))
        output, ops = self._room(self.latents), Ops(self.stream)

        def step() -> None:
            ops.guided_step(coefficients, latents, told, [output], unconditional=untold, scale=5.0)

        found = self._rate([latents, told, untold, output], step)
        (wanted,) = guided_step(weights, noisy, one, other, scale=5.0)
        return {**found, "difference": self._apart(output, wanted)}

    def _relative_l1(self) -> dict[str, float]:
        one, other = self._random(2)
        current, previous = self.stream.upload(one), self.stream.upload(other)
        partials, distance = self._room((2, BLOCKS)), self._room((1,))
        ops = Ops(self.stream)
        found = self._rate(
            [current, previous],
            lambda: ops.relative_l1(current, previous, partials, distance),
        )
        wanted = np.array([relative_l1(one, other)])
        return {**found, "difference": self._apart(distance, wanted)}

    def _int8_attention(self) -> dict[str, float]:
        """In float16; `tera_ops_s` counts both products."""
        batch, heads, tokens, size = self.attention
        rng = np.random.default_rng(0)
        halves = [rng.standard_normal(self.attention, np.float32).astype(np.float16) for _ in "qkv"]
        found = self._rate(*self._attend(halves))
        short = [array[:, :, :COMPARED] for array in halves]
        (*_, output), work = self._attend(short)
        work()
        wanted = int8_attention(*(array.astype(np.float32) for array in short))
        done = 4 * batch * heads * tokens**2 * size
        rate = round(done / found["microseconds"] / 1e6, 1)
        return {**found, "tera_ops_s": rate, "difference": self._apart(output, wanted)}

    def _attend(self, halves: list[NDArray[np.float16]]) -> tuple[list[DeviceArray], Work]:
        """The arrays of queries, keys, values and output, and what computes the last."""
        queries, keys, values = map(self.stream.upload, halves)
        output = self._room(queries.shape, "float16")
        workspace = self._room((workspace_bytes(*keys.shape),), "uint8")

        def attend() -> None:
            Ops(self.stream).int8_attention(queries, keys, values, workspace, output)

        return [queries, keys, values, output], attend

    def _pictures(
        self,
        shape: tuple[int, ...],
        launch: Callable[[Ops, DeviceArray, DeviceArray], None],
        statement: Callable[[NDArray[np.float32]], NDArray[np.uint8]],
    ) -> dict[str, float]:
        values = np.random.default_rng(0).uniform(-1, 1, self.frames).astype(np.float32)
        frames, output = self.stream.upload(values), self._room(shape, "uint8")
        found = self._rate([frames, output], lambda: launch(Ops(self.stream), frames, output))
        return {**found, "difference": self._apart(output, statement(values))}

    def _random(self, n: int) -> list[NDArray[np.float32]]:
        rng = np.random.default_rng(0)
        return [rng.standard_normal(self.latents, np.float32) for _ in range(n)]

    def _room(self, shape: tuple[int, ...], dtype: str = "float32") -> DeviceArray:
        return self.stream.empty(shape, dtype)

    def _rate(self, moved: list[DeviceArray], work: Work) -> dict[str, float]:
        """Median of single launches by the device's clock, after one that compiles."""
        work()
        self.stream.synchronize()
        median = statistics.median(self._milliseconds(work) for _ in range(REPETITIONS))
        moving = sum(math.prod(array.shape) * DTYPES[array.dtype].itemsize for array in moved)
        return {"microseconds": round(1e3 * median, 2), "gb_s": round(moving / median / 1e6, 1)}

    def _milliseconds(self, work: Work) -> float:
        begin = self.stream.record()
        work()
        end = self.stream.record()
        end.synchronize()
        return end.milliseconds_since(begin)

    def _apart(self, found: DeviceArray, wanted: NDArray[Any]) -> float:
        values = self.stream.download(found).astype(np.float64)
        return float(np.abs(values - wanted).max())
