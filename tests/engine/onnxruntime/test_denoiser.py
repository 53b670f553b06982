"""The form in which a denoiser runs on the CPU, against its graph as it stands in the bundle."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope.engine import Bundle, EngineOptions, open_graph
from mutoscope.engine.backends.onnxruntime import (
    attention,
    open_changed,
    open_denoiser,
    open_session,
)
from mutoscope.engine.backends.onnxruntime.padding import shorten
from mutoscope.engine.backends.onnxruntime.prompt import split
from mutoscope.engine.backends.onnxruntime.rewrite import Parts, rewrite
from mutoscope.engine.lora import Merged
from mutoscope.engine.manifest import read_manifest
from mutoscope.engine.onnx_file import OnnxFile, parse
from mutoscope.engine.session import Session
from mutoscope.errors import MutoscopeError

pytest.importorskip("onnxruntime", reason="the cpu extra is not installed")

OPTIONS = EngineOptions(threads=1)
EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
SPEC = read_manifest(EMBEDDED)[0].denoiser
FLOAT, FLOAT16 = 1, 10
"""The codes of types in ONNX."""


@pytest.fixture(scope="module")
def embedded() -> Bundle:
    return Bundle.open(EMBEDDED)


def in_parts(bundle: Bundle) -> Parts:
    return rewrite(OnnxFile(bundle, "denoiser").model, bundle.manifest.denoiser)


def as_it_stands(bundle: Bundle) -> Session:
    return open_changed(bundle, "denoiser", OPTIONS, bundle.graph("denoiser"), None)


def feeds(
    batch: int = 1, size: tuple[int, int, int] = (2, 4, 6), tokens: int = 5, seed: int = 0
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    times = np.linspace(200, 900, batch * size[0], dtype=np.float32)
    return {
        "hidden_states": rng.standard_normal((batch, 16, *size), np.float32),
        "timestep": times.reshape(batch, -1),
        "encoder_hidden_states": rng.standard_normal((batch, tokens, 128), np.float32),
    }


def test_attention_takes_few_nodes(embedded: Bundle) -> None:
    nodes = in_parts(embedded).step.graph.node
    kinds = Counter(node.op_type for node in nodes)
    assert kinds["Attention"] == kinds["RotaryEmbedding"] == 2 * SPEC.layers
    assert kinds["Transpose"] == 2  # into patches, and back
    assert len(nodes) < 0.8 * len(OnnxFile(embedded, "denoiser").model.graph.node)


def test_wide_attention_goes_in_blocks(embedded: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "WIDE", SPEC.hidden_size)
    kinds = Counter(node.op_type for node in in_parts(embedded).step.graph.node)
    to_itself, to_the_prompt = kinds["MultiHeadAttention"], kinds["Attention"]
    assert to_itself == to_the_prompt == SPEC.layers


def test_keys_and_values_of_the_prompt_are_apart(embedded: Bundle) -> None:
    parts = in_parts(embedded)
    assert len(parts.between) == 2 * SPEC.layers
    assert [tensor.name for tensor in parts.prompt.graph.input] == ["encoder_hidden_states"]
    held = [
        {tensor.name for tensor in part.graph.initializer} for part in (parts.prompt, parts.step)
    ]
    assert not any("weight" in name for name in held[0] & held[1])


@pytest.mark.parametrize("wide", [0, 4096], ids=["in blocks", "all scores"])
@pytest.mark.parametrize(
    ("batch", "size", "tokens"),
    [(1, (2, 4, 6), 5), (2, (5, 8, 8), 128), (2, (1, 2, 10), 1), (3, (3, 6, 2), 33)],
)
def test_the_same_velocities(
    embedded: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    wide: int,
    batch: int,
    size: tuple[int, int, int],
    tokens: int,
) -> None:
    monkeypatch.setattr(attention, "WIDE", wide)
    given = feeds(batch, size, tokens)
    with as_it_stands(embedded) as whole, open_session(embedded, "denoiser", OPTIONS) as parts:
        wanted, found = (np.asarray(s.run(given)["sample"]) for s in (whole, parts))
    assert np.linalg.norm(found - wanted) <= 1e-6 * np.linalg.norm(wanted)


def in_half_precision(bundle: Bundle) -> Merged:
    """A denoiser whose attention is in fp16, as `export` writes that."""
    model = OnnxFile(bundle, "denoiser").model
    nodes = list(model.graph.node)
    givers = {name: node for node in nodes for name in node.output}
    takers = {name: node for node in nodes for name in node.input}
    casts: dict[str, Any] = {}

    def cast(node: Any, place: int, to: int) -> None:
        name = node.input[place]
        casts[node.output[0]] = made = type(node)(op_type="Cast", input=[name])
        made.output.append(f"{name}.in.{to}")
        made.attribute.add(name="to", i=to, type=2)
        node.input[place] = made.output[0]

    for node in [node for node in nodes if node.op_type == "Attention"]:
        *turned, value = (givers[name] for name in node.input)
        for transpose in turned:
            cast(transpose, 0, FLOAT16)
        cast(givers[value.input[0]], 0, FLOAT16)
        (laid,) = takers[takers[node.output[0]].output[0]].output
        cast(takers[laid], list(takers[laid].input).index(laid), FLOAT)
    whole = [new for node in nodes for new in (casts.get(node.output[0]), node) if new is not None]
    copies = [type(node).FromString(node.SerializeToString()) for node in whole]
    model.graph.ClearField("node")
    model.graph.node.extend(copies)
    return Merged(model.SerializeToString(), {})


def test_attention_in_half_precision_holds_no_scores_either(
    embedded: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Narrow models keep it as it stands, wide ones take the node that computes in blocks."""
    content, given, path = in_half_precision(embedded), feeds(2, (5, 8, 8), 20), Path("x.onnx")
    found = {}
    for wide in (4096, 0):
        monkeypatch.setattr(attention, "WIDE", wide)
        parts = rewrite(parse(content.model, path), SPEC)
        kinds = Counter(node.op_type for node in parts.step.graph.node)
        assert kinds["MultiHeadAttention"] == (0 if wide else SPEC.layers)
        assert kinds["Attention"] == (2 * SPEC.layers if wide else SPEC.layers)
        with open_denoiser(embedded, "denoiser", OPTIONS, content) as session:
            found[wide] = np.asarray(session.run(given)["sample"])
    with as_it_stands(embedded) as whole:
        exact = np.asarray(whole.run(given)["sample"])
    errors = [np.linalg.norm(each - exact) / np.linalg.norm(exact) for each in found.values()]
    assert 1e-5 < errors[0] < 2e-3
    assert errors[1] < errors[0]  # ONNX Runtime computes that node in fp32


@pytest.mark.parametrize("lengths", [(3, 0), (8, 1), (7, 2), (0, 0), (8, 8)])
def test_padding_is_one_key(
    embedded: Bundle, monkeypatch: pytest.MonkeyPatch, lengths: tuple[int, int]
) -> None:
    """Of two prompts of up to 8 tokens, padded with zeros."""
    given = feeds(2, tokens=8)
    for row, length in enumerate(lengths):
        given["encoder_hidden_states"][row, length:] = 0
    with as_it_stands(embedded) as whole, open_session(embedded, "denoiser", OPTIONS) as parts:
        wanted, found = (np.asarray(s.run(given)["sample"]) for s in (whole, parts))
    assert np.linalg.norm(found - wanted) <= 1e-6 * np.linalg.norm(wanted)


def test_padding_is_cut_but_for_one_token() -> None:
    text = np.zeros((2, 9, 4), np.float32)
    text[0, [0, 2]] = text[1, 0] = 1
    short, bias = shorten(text)
    np.testing.assert_array_equal(short, text[:, :4])
    wanted = np.array([[0, 0, 0, np.log(6)], [0, np.log(8), -np.inf, -np.inf]], np.float32)
    np.testing.assert_array_equal(bias, wanted[:, None, None])


def test_a_prompt_without_padding_is_whole() -> None:
    text = np.ones((1, 9, 4), np.float32)
    short, bias = shorten(text)
    assert short.shape == text.shape
    assert not bias.any()


def test_padding_stays_where_tokens_meet_before_attention(embedded: Bundle) -> None:
    """A text embedding that mixes tokens makes other things of zeros at other places."""
    model = OnnxFile(embedded, "denoiser").model
    mixed = next(node for node in model.graph.node if node.op_type == "Gelu")
    mixed.op_type = "Softmax"
    parts = rewrite(model, embedded.manifest.denoiser)
    assert parts.prompt is not None
    assert not parts.padded


def test_a_prompt_is_understood_once(embedded: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two prompts are remembered; a third takes the place of the first."""
    session: Any = open_session(embedded, "denoiser", OPTIONS)
    ran = []
    compute = session._compute
    monkeypatch.setattr(
        session, "_compute", lambda native, *rest: (ran.append(native), compute(native, *rest))[1]
    )
    one, other, third = (feeds(seed=seed) for seed in range(3))
    for given in (one, other, one, other, feeds(seed=0), third, other, one):
        session.run(given)
    assert ran.count(session._prompt) == 4
    assert len(ran) == 8 + 4


def test_a_prompt_that_changes_in_place(embedded: Bundle) -> None:
    given = feeds()
    with open_session(embedded, "denoiser", OPTIONS) as session:
        before = session.run(given)["sample"]
        given["encoder_hidden_states"] *= 2
        after = session.run(given)["sample"]
    with open_session(embedded, "denoiser", OPTIONS) as session:
        np.testing.assert_array_equal(session.run(given)["sample"], after)
    assert not np.array_equal(before, after)


def test_closed(embedded: Bundle) -> None:
    session = open_graph(embedded, "denoiser")
    session.run(feeds())
    session.close()
    session.close()
    with pytest.raises(MutoscopeError, match="denoiser: the session is closed"):
        session.run(feeds(seed=1))


def test_what_is_not_as_exported_stays(embedded: Bundle) -> None:
    """Attention with a mask, and attention that something else looks at."""
    model = OnnxFile(embedded, "denoiser").model
    masked, watched, *_ = (node for node in model.graph.node if node.op_type == "Attention")
    masked.input.append("mask")
    model.graph.output.add(name=watched.output[0])
    attention.fuse(model, heads=SPEC.heads, in_blocks=False)
    left = [
        node.output[0]
        for node in model.graph.node
        if node.op_type == "Attention" and not any(a.name == "q_num_heads" for a in node.attribute)
    ]
    assert left == [masked.output[0], watched.output[0]]


def test_nothing_depends_on_the_prompt_alone(embedded: Bundle) -> None:
    assert split(OnnxFile(embedded, "denoiser").model, known={"nothing"}) is None
