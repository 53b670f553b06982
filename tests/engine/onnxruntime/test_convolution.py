"""Our own convolution for ONNX Runtime, compiled here, against sums in float64."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import mutoscope
import numpy as np
import pytest
from mutoscope.engine import Bundle, EngineOptions
from mutoscope.engine.backends.onnxruntime import convolution, open_changed, open_vae, vae
from mutoscope.engine.backends.onnxruntime.convolution import (
    convolve_in_blocks,
    fits_convolutions,
    in_bf16,
    pack,
)
from mutoscope.engine.manifest import VAES
from mutoscope.engine.onnx_file import OnnxFile
from mutoscope.engine.planner import needs
from mutoscope.engine.session import axis_length
from numpy.typing import NDArray

pytest.importorskip("onnxruntime", reason="the cpu extra is not installed")

Array = NDArray[np.float32]
RunNode = Callable[..., list[NDArray[Any]]]
EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
AXES = {"batch": 1, "latent_frames": 1, "latent_height": 3, "latent_width": 5}
EXACT = 2e-6
"""Relative error of sums in fp32."""


def in_half(shape: tuple[int, ...], seed: int) -> Array:
    """Random numbers that bf16 holds."""
    x = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return (x.view(np.uint32) & 0xFFFF0000).view(np.float32)


def exact(x: Array, weights: Array, bias: Array) -> NDArray[np.float64]:
    """Clips (channels, frames, height, width) that have their earlier frames already."""
    _, _, depth, side, _ = weights.shape
    margin = side // 2
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, (depth, side, side), (1, 2, 3))
    sums = np.einsum("cfhwtij,octij->ofhw", seen, weights.astype(np.float64), optimize=True)
    return np.asarray(sums + bias[:, None, None, None])


def error(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    assert found.shape == wanted.shape
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    ("channels", "outputs", "depth", "side", "before", "frames", "height", "width"),
    [
        (1, 1, 1, 3, 0, 1, 1, 1),
        (3, 8, 3, 3, 2, 1, 5, 7),
        (33, 9, 3, 3, 2, 4, 10, 49),
        (2, 17, 3, 1, 2, 3, 6, 16),
        (16, 3, 3, 3, 0, 3, 3, 65),
        (4, 8, 2, 5, 1, 2, 37, 20),
        (130, 24, 3, 3, 2, 4, 20, 33),
    ],
)
def test_the_same_as_in_float64(
    run_node: RunNode,
    channels: int,
    outputs: int,
    depth: int,
    side: int,
    before: int,
    frames: int,
    height: int,
    width: int,
    bf16: bool,
) -> None:
    clips = 2
    x = in_half((clips, channels, frames, height, width), 1)
    earlier = in_half((clips, channels, before, height, width), 2)
    weights, bias = in_half((outputs, channels, depth, side, side), 3), in_half((outputs,), 4)
    feeds: dict[str, Any] = {"x": x, "weights": pack(weights, bf16=bf16), "bias": bias}
    feeds["earlier"] = earlier if before else None
    settings = {"bf16": int(bf16), "scale": 1, "kept": 1}
    found, last = run_node("BlockedConvolution", feeds, ["y", "last"], **settings)
    whole = np.concatenate([earlier, x], axis=2)
    for clip in range(clips):
        assert error(found[clip], exact(whole[clip], weights, bias)) <= EXACT
    np.testing.assert_array_equal(last, whole[:, :, -1:])
    feeds["added"] = np.random.default_rng(5).standard_normal(found.shape, np.float32)
    more, last = run_node("BlockedConvolution", feeds, ["y", "last"], **settings)
    np.testing.assert_array_equal(more, found + feeds["added"])
    np.testing.assert_array_equal(last, whole[:, :, -1:])


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("scale", [1, 2])
def test_pictures(run_node: RunNode, scale: int, bf16: bool) -> None:
    """Several, not one clip; and such that are doubled on the way."""
    x, weights, bias = in_half((3, 5, 9, 11), 1), in_half((7, 5, 3, 3), 2), in_half((7,), 3)
    feeds = {"x": x, "weights": pack(weights, bf16=bf16), "bias": bias}
    settings = {"bf16": int(bf16), "scale": scale, "kept": 0}
    (found,) = run_node("BlockedConvolution", feeds, ["y"], **settings)
    large = x.repeat(scale, 2).repeat(scale, 3)
    wanted = exact(large.swapaxes(0, 1), weights[:, :, None], bias).swapaxes(0, 1)
    assert error(found, wanted) <= EXACT


def test_what_bf16_does_not_hold_is_rounded(run_node: RunNode) -> None:
    """To the nearest: cut off, the error of weights that are all positive would add up."""
    rng = np.random.default_rng(0)
    x = rng.random((1, 64, 1, 8, 20), np.float32) + 1
    weights, bias = rng.random((8, 64, 1, 3, 3), np.float32) + 1, np.zeros(8, np.float32)
    feeds = {"x": x, "weights": pack(weights, bf16=True), "bias": bias}
    (found,) = run_node("BlockedConvolution", feeds, ["y"], bf16=1, scale=1, kept=0)
    assert 1e-7 < error(found[0], exact(x[0], weights, bias)) < 2e-4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": (2, 4, 3, 5, 5)}, "earlier frames are of another size"),
        ({"weights": (1, 3, 3, 3, 5, 8)}, "weights and channels do not fit"),
        ({"x": (1, 4, 5)}, "an input has too many axes or too few"),
        ({"bias": (9,)}, "weights and bias do not fit"),
        ({"earlier": (1, 4, 2, 5, 6)}, "earlier frames are of another size"),
        ({"x": (1, 4, 1, 5, 5), "earlier": (1, 4, 1, 5, 5)}, "not frames enough for the kernel"),
        ({"weights": (1, 3, 3, 1, 4, 8)}, "the kernel is no odd square"),
        ({"added": (1, 8, 1, 5, 5)}, "what is added is of another size"),
    ],
)
def test_what_does_not_fit(
    run_node: RunNode, change: dict[str, tuple[int, ...]], said: str
) -> None:
    shapes = {
        "x": (1, 4, 3, 5, 5), "weights": (1, 3, 3, 3, 4, 8), "bias": (8,),
        "earlier": (1, 4, 2, 5, 5),
    } | change  # fmt: skip
    types = {"weights": np.int32}
    feeds = {name: np.zeros(shape, types.get(name, np.float32)) for name, shape in shapes.items()}
    with pytest.raises(Exception, match=said):
        run_node("BlockedConvolution", feeds, ["y"], bf16=0, scale=1, kept=0)


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", VAES)
def test_a_vae_with_it(
    operators: Path, monkeypatch: pytest.MonkeyPatch, name: str, bf16: bool
) -> None:
    """Every output, the caches too."""
    bundle, options = Bundle.open(EMBEDDED), EngineOptions(threads=2)
    interface = bundle.graph(name)
    rng = np.random.default_rng(0)
    feeds = {
        spec.name: rng.standard_normal([axis_length(a, AXES) for a in spec.shape], np.float32)
        for spec in interface.inputs
    }
    monkeypatch.setattr(convolution, "WIDE", 0)
    monkeypatch.setattr(vae, "own_operators", lambda: operators)
    whole = open_changed(bundle, name, options, interface, None)
    with whole, open_vae(bundle, name, options, bf16=bf16) as session:
        assert session.kernels == ("BlockedConvolution", "RmsNormSilu")
        wanted, found = whole.run(feeds), session.run(feeds)
    assert wanted.keys() == found.keys()
    for output, array in wanted.items():
        if np.any(array):
            off = error(np.asarray(found[output]), np.asarray(array))
            assert off < (3e-2 if bf16 else 2e-5), output
        else:
            assert not np.any(found[output])


def test_frames_are_joined_pixels_doubled_and_clips_added_within() -> None:
    file = OnnxFile(Bundle.open(EMBEDDED), "vae_decoder_next")
    before = Counter(node.op_type for node in file.model.graph.node)
    caches = sum(o.name.startswith("new_cache") for o in file.model.graph.output)
    convolve_in_blocks(file, bf16=False)
    nodes = file.model.graph.node
    after = Counter(node.op_type for node in nodes)
    made = [node for node in nodes if node.op_type == "BlockedConvolution"]
    assert sum(len(node.output) == 2 for node in made) == caches
    assert before["Conv"] - after["Conv"] == len(made)
    assert after["Resize"] == 0
    assert before["Add"] - after["Add"] == sum(len(node.input) == 5 for node in made) == 8
    assert before["Concat"] - after["Concat"] == before["Slice"] - after["Slice"] == caches


def test_only_wide_ones_take_it_and_bf16_is_for_int8() -> None:
    bundle = Bundle.open(EMBEDDED)
    file = OnnxFile(bundle, "vae_decoder_next")
    assert not fits_convolutions(file, "fp32")  # 64 channels
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "WIDE", 64)
        assert fits_convolutions(file, "fp32")
        assert not fits_convolutions(file, "fp16")
    assert not in_bf16(bundle)
    graphs = bundle.manifest.graphs
    denoiser = msgspec.structs.replace(graphs["denoiser"], precision="int8")
    graphs = {**graphs, "denoiser": denoiser}
    manifest = msgspec.structs.replace(bundle.manifest, graphs=graphs)
    assert in_bf16(Bundle(bundle.path, manifest, ""))


def test_a_sum_of_two_convolutions_is_written_once() -> None:
    """By one of them; the other goes into it."""
    file = OnnxFile(Bundle.open(EMBEDDED), "vae_decoder_next")
    (total, *_) = [node for node in file.model.graph.node if node.op_type == "Add"]
    convolutions = [node for node in file.model.graph.node if node.op_type == "Conv"]
    one = next(node for node in convolutions if node.output[0] in total.input)
    other = file.model.graph.node.add()
    other.CopyFrom(one)
    other.output[0] = "other"
    nodes = list(file.model.graph.node)
    nodes.insert(nodes.index(one), nodes.pop())
    file.model.graph.ClearField("node")
    file.model.graph.node.extend(nodes)
    (total, *_) = [node for node in file.model.graph.node if node.op_type == "Add"]
    total.input[:] = [one.output[0], "other"]
    wanted = total.output[0]
    convolve_in_blocks(file, bf16=False)
    made = [node for node in file.model.graph.node if node.op_type == "BlockedConvolution"]
    (sums,) = [node for node in made if node.output[0] == wanted]
    assert sums.input[-1] in {one.output[0], "other"}
    assert {one.output[0], "other"} & {node.output[0] for node in made} == {sums.input[-1]}


def test_weights_are_not_added_within() -> None:
    """Nothing says that they have the size of a clip."""
    file = OnnxFile(Bundle.open(EMBEDDED), "vae_decoder_next")
    (total, *_) = [node for node in file.model.graph.node if node.op_type == "Add"]
    total.input[1] = next(name for name, shape in file.shapes.items() if len(shape) == 1)
    convolve_in_blocks(file, bf16=False)
    left = [node.output[0] for node in file.model.graph.node if node.op_type == "Add"]
    assert total.output[0] in left


def test_rows_that_are_joined_are_no_frames() -> None:
    """Of pictures the third axis is their height."""
    file = OnnxFile(Bundle.open(EMBEDDED), "vae_decoder_next")
    (doubling, *_) = [node for node in file.model.graph.node if node.op_type == "Resize"]
    doubling.op_type = "Concat"
    del doubling.attribute[:]
    doubling.attribute.add(name="axis", i=2, type=2)
    doubling.input[1] = doubling.input[0]
    del doubling.input[2:]
    convolve_in_blocks(file, bf16=False)
    (taker,) = [n for n in file.model.graph.node if doubling.output[0] in n.input]
    assert (taker.op_type, len(taker.input)) == ("BlockedConvolution", 3)


def test_a_plan_knows_that_it_holds_less(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, axes = Bundle.open(EMBEDDED), {**AXES, "latent_height": 40, "latent_width": 40}
    monkeypatch.setattr("mutoscope.engine.planner.usable", lambda: True)
    whole = needs(bundle, "vae_decoder_next", axes).cpu
    monkeypatch.setattr(convolution, "WIDE", 0)
    assert needs(bundle, "vae_decoder_next", axes).cpu.live < 0.8 * whole.live
