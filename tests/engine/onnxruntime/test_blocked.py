"""Our own attention for ONNX Runtime, compiled here, against softmax in float64."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope.engine import Bundle, EngineOptions
from mutoscope.engine.backends.onnxruntime import (
    attention,
    denoiser,
    native_operators,
    open_changed,
    open_session,
)
from mutoscope.engine.backends.onnxruntime.blocked import fits_blocks
from mutoscope.engine.backends.onnxruntime.padding import BIAS, MASK
from mutoscope.engine.backends.onnxruntime.rewrite import rewrite
from mutoscope.engine.onnx_file import OnnxFile
from numpy.typing import NDArray

pytest.importorskip("onnxruntime", reason="the cpu extra is not installed")
if shutil.which(native_operators.COMPILER) is None:
    pytest.skip("there is no C++ compiler", allow_module_level=True)

Array = NDArray[np.float32]
Attend = Callable[..., Array]
RunNode = Callable[..., list[NDArray[Any]]]
EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
SCALE = float(np.float32(np.log(2) / 8))
"""Queries are multiplied by this and 1 / log 2: by a power of two they stay what bf16 holds."""

ROUNDED = 2**-8
"""What bf16 takes of a number at most: weights are rounded, each on its own."""


@pytest.fixture
def attend(run_node: RunNode) -> Attend:
    """Queries, keys and values, in how many heads, and perhaps a bias → a graph of that node."""

    def attend(q: Array, k: Array, v: Array, heads: int, bias: Array | None = None) -> Array:
        feeds = {"q": q, "k": k, "v": v, **({} if bias is None else {"bias": bias})}
        outputs = ["out", "workspace"]
        found, _ = run_node("BlockedAttention", feeds, outputs, num_heads=heads, scale=SCALE)
        return np.asarray(found)

    return attend


def exact(
    q: Array, k: Array, v: Array, heads: int, bias: Array | None = None
) -> NDArray[np.float64]:
    def apart(x: Array) -> NDArray[np.float64]:
        return x.astype(np.float64).reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)

    scores = apart(q) @ apart(k).swapaxes(2, 3) * SCALE + (0 if bias is None else bias)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return (weights @ apart(v)).swapaxes(1, 2).reshape(q.shape)


def in_bf16(shape: Sequence[int], seed: int, size: float = 1) -> Array:
    """Random numbers that bf16 holds."""
    x = np.random.default_rng(seed).standard_normal(shape, np.float32) * np.float32(size)
    return (x.view(np.uint32) & 0xFFFF0000).view(np.float32)


def error(found: Array, wanted: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("biased", [False, True], ids=["", "biased"])
@pytest.mark.parametrize(
    ("batch", "queries", "keys", "heads", "width"),
    [
        (1, 48, 128, 1, 16),
        (2, 49, 129, 3, 32),
        (1, 1, 1, 2, 16),
        (2, 1, 300, 1, 48),
        (3, 100, 5, 1, 64),
        (1, 95, 263, 2, 128),
    ],
)
def test_the_same_as_in_float64(
    attend: Attend, batch: int, queries: int, keys: int, heads: int, width: int, biased: bool
) -> None:
    q = in_bf16((batch, queries, heads * width), 1)
    k, v = (in_bf16((batch, keys, heads * width), seed) for seed in (2, 3))
    bias = in_bf16((batch, 1, 1, keys), 4, 2) if biased else None
    found = attend(q, k, v, heads, bias)
    assert error(found, exact(q, k, v, heads, bias)) <= ROUNDED


def test_scores_that_rise(attend: Attend) -> None:
    """From key to key, so that the maximum is followed within blocks and between them."""
    q, k, v = (in_bf16((1, tokens, 32), seed) for seed, tokens in enumerate((50, 300, 300)))
    k *= np.exp2(np.arange(300) // 32)[None, :, None].astype(np.float32)
    wanted = exact(q, k, v, 2)
    found = attend(q, k, v, 2)
    assert error(found, wanted) <= ROUNDED
    assert np.abs(wanted).max() > 2  # few keys have all the weight


@pytest.mark.parametrize("hidden", [slice(0, 130), slice(3, 299), slice(299, 300)])
def test_hidden_keys(attend: Attend, hidden: slice) -> None:
    q, k, v = (in_bf16((2, tokens, 32), seed) for seed, tokens in enumerate((20, 300, 300)))
    bias = np.zeros((2, 1, 1, 300), np.float32)
    bias[1, ..., hidden] = -np.inf
    assert error(attend(q, k, v, 2, bias), exact(q, k, v, 2, bias)) <= ROUNDED


@pytest.mark.parametrize("shift", [-2000, 2000])
def test_what_all_scores_share_changes_nothing(attend: Attend, shift: float) -> None:
    q, k, v = (in_bf16((1, tokens, 32), seed) for seed, tokens in enumerate((20, 200, 200)))
    bias = np.full((1, 1, 1, 200), shift, np.float32)
    assert error(attend(q, k, v, 2, bias), exact(q, k, v, 2)) <= ROUNDED


@pytest.mark.parametrize(
    ("shapes", "heads", "said"),
    [
        (((1, 8, 48), (1, 8, 48), (1, 8, 48)), 2, "heads are not of 16, 32"),
        (((1, 8, 32), (2, 8, 32), (2, 8, 32)), 2, "queries, keys and values do not fit"),
        (((1, 8, 32), (1, 0, 32), (1, 0, 32)), 2, "there are no keys"),
        (((1, 8, 32), (1, 8, 32), (8, 32)), 2, "an input has too many axes or too few"),
        (((1, 8, 32), (1, 8, 32), (1, 8, 32), (1, 1, 8, 8)), 2, "the bias does not fit the keys"),
    ],
)
def test_what_does_not_fit(
    attend: Attend, shapes: Sequence[Sequence[int]], heads: int, said: str
) -> None:
    q, k, v, *bias = (np.zeros(shape, np.float32) for shape in shapes)
    with pytest.raises(Exception, match=said):
        attend(q, k, v, heads, *bias)


@pytest.mark.parametrize("wide", [0, 4096], ids=["in blocks", "all scores"])
def test_a_denoiser_with_it(
    operators: Path, monkeypatch: pytest.MonkeyPatch, denoiser_feeds: dict[str, Any], wide: int
) -> None:
    """Two prompts of other lengths: the bias of the padding goes to the operator as it is."""
    bundle, options = Bundle.open(EMBEDDED), EngineOptions(threads=2)
    feeds = denoiser_feeds
    feeds["encoder_hidden_states"][1, 3:] = 0
    monkeypatch.setattr(attention, "WIDE", wide)
    monkeypatch.setattr(denoiser, "fits_blocks", lambda model, spec: True)
    monkeypatch.setattr(denoiser, "own_operators", lambda: operators)
    whole = open_changed(bundle, "denoiser", options, bundle.graph("denoiser"), None)
    with whole, open_session(bundle, "denoiser", options) as session:
        wanted, found = (np.asarray(s.run(feeds)["sample"]) for s in (whole, session))
        assert session.kernels == ("BlockedAttention",)
    assert 1e-5 < error(found, wanted.astype(np.float64)) < 1e-2


def test_only_what_is_in_int8_takes_it() -> None:
    bundle = Bundle.open(EMBEDDED)
    spec, model = bundle.manifest.denoiser, OnnxFile(bundle, "denoiser").model
    assert not fits_blocks(model, spec)
    next(
        node for node in model.graph.node if node.op_type == "MatMul"
    ).op_type = "DynamicQuantizeMatMul"
    assert fits_blocks(model, spec)
    nodes = rewrite(model, spec, blocked=True).step.graph.node
    kinds = Counter(node.op_type for node in nodes)
    assert kinds["BlockedAttention"] == 2 * spec.layers
    assert not kinds["Attention"]
    taken = Counter(name for node in nodes for name in node.input)
    assert taken[BIAS] == spec.layers
    assert not taken[MASK]


def test_it_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = native_operators.build(())
    monkeypatch.setattr(native_operators, "_compile", lambda *given: pytest.fail("compiled again"))
    assert native_operators.build(()) == made


def test_what_others_changed_is_not_loaded() -> None:
    made = native_operators.build(())
    good = made.read_bytes()
    made.write_bytes(good + b"\0")
    assert native_operators.build(()).read_bytes()[: len(good)] == good
    assert made.read_bytes() == good


@pytest.mark.parametrize(
    "failure",
    [OSError("no compiler"), subprocess.CalledProcessError(1, "c++"), None],
    ids=["no place", "it does not compile", "no instructions"],
)
def test_without_it_attention_is_in_fp32(
    monkeypatch: pytest.MonkeyPatch, failure: Exception | None
) -> None:
    def build(flags: tuple[str, ...]) -> Path:
        assert failure is not None
        raise failure

    monkeypatch.setattr(native_operators, "usable", lambda: failure is not None)
    monkeypatch.setattr(native_operators, "build", build)
    assert native_operators.own_operators.__wrapped__() is None
