"""The launcher of attention; `ops.py` says what holds for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .checks import expect, expect_array, floats, same_dtype, same_shape
from .compiler import compile_source, read_source
from .device import DeviceArray, Stream
from .int8_attention import CHUNKS, TILE, log2_scale

HEAD_SIZES = (32, 64, 128)
QUERIES = 128  # of a block, as in int8_attention.cu
MAX_HEADS = 65535  # of the grid's second axis
SOURCES = ("int8_attention", "int8_keys")


class AttentionOps:
    """Attention with scores in int8."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def int8_attention(
        self,
        queries: DeviceArray,
        keys: DeviceArray,
        values: DeviceArray,
        workspace: DeviceArray,
        output: DeviceArray,
        *,
        scale: float | None = None,
        bias: DeviceArray | None = None,
    ) -> None:
        """`kernels.int8_attention.int8_attention`.

        Args:
            queries: (batch, heads, queries, size), with a size of 32, 64 or 128.
            keys: (batch, heads, keys, size), of the queries' type.
            values: of the keys' shape and type.
            workspace: uint8, as long as `workspace_bytes` says, at an address divisible by 16.
            output: of the queries' shape and type.
            scale: by default 1 / sqrt(size).
            bias: float32 (batch, keys).
        """
        same_shape("int8_attention", [queries, output])
        same_shape("int8_attention", [keys, values])
        same_dtype("int8_attention", [queries, keys, values, output])
        batch, heads, length, size = queries.shape
        expect_array("keys", keys, (batch, heads, keys.shape[2], size), floats(queries))
        expect(size in HEAD_SIZES, f"int8_attention: heads of {HEAD_SIZES} channels, not {size}")
        expect(
            batch * heads <= MAX_HEADS and min(length, keys.shape[2]) > 0,
            f"int8_attention: at most {MAX_HEADS} heads, and no empty arrays",
        )
        parts = split_workspace(keys.shape, workspace)
        if bias is not None:
            expect_array("bias", bias, (batch, keys.shape[2]))
        kind, log2 = f"{queries.dtype}_{size}", log2_scale(size, scale)
        counts = np.int32(keys.shape[2]), np.int32(length)
        tiles = -(-keys.shape[2] // TILE)
        for tokens, sums in (keys, "key_sums"), (queries, "query_sums"):
            self.stream.launch(
                "int8_keys",
                f"int8_keys_sums_{queries.dtype}",
                (CHUNKS, batch * heads),
                [tokens, np.int32(tokens.shape[2]), np.int32(size), parts[sums]],
            )
        self.stream.launch(
            "int8_keys",
            f"int8_keys_{kind}",
            (tiles, batch * heads),
            [
                keys, values, parts["key_sums"], parts["query_sums"], *counts, bias,
                np.int32(heads), log2, parts["query_mean"], parts["scales"], parts["biases"],
                parts["tiles"],
            ],
        )  # fmt: skip
        self.stream.launch(
            "int8_attention",
            f"int8_attention_{kind}",
            (-(-length // QUERIES), batch * heads),
            [
                queries, parts["query_mean"], parts["tiles"], parts["scales"], parts["biases"],
                np.int32(length), np.int32(tiles), log2, output,
            ],
        )  # fmt: skip


def machine_code(arch: str) -> dict[str, bytes]:
    """The cubins of all that attention launches, by source; raises as `compile_source`."""
    return {name: compile_source(read_source(name), name, arch) for name in SOURCES}


def workspace_bytes(batch: int, heads: int, keys: int, size: int) -> int:
    """What attention needs to work in, for keys (batch, heads, keys, size)."""
    return sum(_parts(batch, heads, keys, size).values())


def split_workspace(keys: tuple[int, ...], workspace: DeviceArray) -> dict[str, DeviceArray]:
    """The parts of a workspace, by what int8_keys.cu calls them.

    Raises:
        MutoscopeError: it is too short, or not aligned.
    """
    parts = _parts(*keys)
    needed = sum(parts.values())
    expect(
        workspace.dtype == "uint8" and math.prod(workspace.shape) >= needed,
        f"workspace must be uint8, of at least {needed} bytes",
    )
    expect(workspace.pointer % 16 == 0, "workspace must lie at an address divisible by 16")
    found, start = {}, 0
    for name, size in parts.items():
        found[name] = workspace.rows(start, start + size)
        start += size
    return found


def _parts(batch: int, heads: int, keys: int, size: int) -> Mapping[str, int]:
    """Bytes; each a multiple of 16."""
    tiles = batch * heads * -(-keys // TILE)
    return {
        "key_sums": batch * heads * CHUNKS * size * 4,
        "query_sums": batch * heads * CHUNKS * size * 4,
        "query_mean": batch * heads * size * 4,
        "scales": tiles * TILE * 4,
        "biases": tiles * TILE * 4,
        "tiles": tiles * TILE * size * 3,
    }
