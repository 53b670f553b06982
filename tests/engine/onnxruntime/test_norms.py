"""Our own norm with SiLU for ONNX Runtime, compiled here, against sums in float64."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope.engine import Bundle
from mutoscope.engine.backends.onnxruntime.norms import normalize_at_once
from mutoscope.engine.onnx_file import OnnxFile
from numpy.typing import NDArray

pytest.importorskip("onnxruntime", reason="the cpu extra is not installed")

Array = NDArray[np.float32]
RunNode = Callable[..., list[NDArray[Any]]]
EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
LEAST = np.array(1e-3, np.float32)


def exact(x: Array, weights: Array) -> NDArray[np.float64]:
    """Channels are the second axis."""
    wide = x.astype(np.float64)
    norms = np.maximum(np.sqrt((wide**2).sum(1, keepdims=True)), float(LEAST))
    y = wide / norms * weights.reshape(-1, *[1] * (x.ndim - 2))
    return np.asarray(y / (1 + np.exp(-y)))


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (1, 3, 1), (2, 96, 3, 5, 7), (1, 4, 1, 9, 33), (3, 384, 65), (1, 2000, 1, 3, 50)],
    ids=str,
)
def test_the_same_as_in_float64(run_node: RunNode, shape: tuple[int, ...]) -> None:
    """Some pixels are next to nothing, and some results next to -30, 30 and 0."""
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal(shape, np.float32), rng.standard_normal(shape[1], np.float32)
    x.reshape(-1)[:: max(7, x.size // 9)] *= 1e-8
    weights *= 10 * np.sqrt(shape[1])
    feeds = {"x": x, "weights": weights.reshape(-1, *[1] * (len(shape) - 2)), "least": LEAST}
    (found,) = run_node("RmsNormSilu", feeds, ["y"])
    wanted = exact(x, weights)
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-6 * float(np.abs(wanted).max()))


def test_what_is_no_number_stays_in_its_pixel(run_node: RunNode) -> None:
    x = np.ones((1, 4, 1, 5, 40), np.float32)
    x[0, 1, 0, 2, 3], x[0, 2, 0, 4, 39] = np.nan, np.inf
    feeds = {"x": x, "weights": np.ones(4, np.float32), "least": LEAST}
    (found,) = run_node("RmsNormSilu", feeds, ["y"])
    assert np.isnan(found[0, :, 0, 2, 3]).all()
    assert np.isnan(found[0, 2, 0, 4, 39])
    x[0, :, 0, 2, 3] = x[0, :, 0, 4, 39] = 1
    (clean,) = run_node("RmsNormSilu", feeds, ["y"])
    others = np.ones((5, 40), bool)
    others[2, 3] = others[4, 39] = False
    np.testing.assert_array_equal(found[0, :, 0, others], clean[0, :, 0, others])


def flags(address: int) -> set[str]:
    """Of the piece of this process's memory that an address is in: proc(5), smaps."""
    found = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key, *words = line.split()
        if "-" in key:
            begin, end = (int(part, 16) for part in key.split("-"))
            found = begin <= address < end
        elif found and key == "VmFlags:":
            return set(words)
    return set()


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="the system has no such pages"
)
def test_large_pages_are_asked_for(run_node: RunNode) -> None:
    x = np.ones((1, 4, 1 << 20), np.float32)
    feeds = {"x": x, "weights": np.ones(4, np.float32), "least": LEAST}
    (found,) = run_node("RmsNormSilu", feeds, ["y"])
    assert "hg" in flags(found.ctypes.data + found.nbytes // 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": (4,)}, "the input has no channels"),
        ({"weights": (5,)}, "weights and channels do not fit"),
        ({"least": (2,)}, "the least norm is not one number"),
    ],
)
def test_what_does_not_fit(
    run_node: RunNode, change: dict[str, tuple[int, ...]], said: str
) -> None:
    shapes = {"x": (1, 4, 3), "weights": (4,), "least": ()} | change
    feeds = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    with pytest.raises(Exception, match=said):
        run_node("RmsNormSilu", feeds, ["y"])


def test_six_nodes_are_one() -> None:
    file = OnnxFile(Bundle.open(EMBEDDED), "vae_decoder_next")
    before = Counter(node.op_type for node in file.model.graph.node)
    normalize_at_once(file)
    after = Counter(node.op_type for node in file.model.graph.node)
    made = after["RmsNormSilu"]
    assert made == before["Sigmoid"] > 10
    assert after["Sigmoid"] == 0
    for op in ("ReduceL2", "Clip", "Div"):
        assert after[op] == before[op] - made
    assert after["ReduceL2"] == 1  # before attention, without SiLU


@pytest.mark.parametrize(
    ("op", "place", "name"),
    [
        ("Sigmoid", 0, "latents"),
        ("ReduceL2", 0, "latents"),
        ("ReduceL2", 1, "val_30"),
        ("Mul", 1, "latents"),
    ],
)
def test_what_only_looks_so_is_left(op: str, place: int, name: str) -> None:
    """A gate of something else, a norm of something else or over other axes, weights that come."""
    file = OnnxFile(Bundle.open(EMBEDDED), "vae_decoder_next")
    sigmoids = [node for node in file.model.graph.node if node.op_type == "Sigmoid"]
    first, *_ = [n for n in file.model.graph.node if n.op_type == op and n.input[place] != name]
    first.input[place] = name
    normalize_at_once(file)
    made = [node for node in file.model.graph.node if node.op_type == "RmsNormSilu"]
    assert len(made) == len(sigmoids) - 1
