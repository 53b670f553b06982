"""A TensorRT session, on fakes of the API: no GPU has run this yet."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpu_device import CpuArray
from engine_checks import check_anothers_engine
from mutoscope.engine import Bundle, EngineOptions, Sessions, open_graph
from mutoscope.engine.backends import tensorrt
from mutoscope.engine.backends.tensorrt import session as sessions
from mutoscope.engine.backends.tensorrt.engines import describe
from mutoscope.engine.backends.tensorrt.package import TENSORRT_RTX
from mutoscope.engine.profiles import LatentSize
from mutoscope.engine.store import Built, Engine, EngineStore
from mutoscope.errors import BundleError, MutoscopeError, UserError
from mutoscope.kernels.cuda_core import open_device

SMALL, LARGE = LatentSize(2, 4, 4), LatentSize(3, 8, 6)


def feed(size: LatentSize, dtype: type = np.float32) -> Any:
    shape = (1, 4, size.frames, size.height, size.width)
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def keep_engine(bundle: Bundle, size: LatentSize, targets: Any = ("sm_89",), **more: Any) -> Engine:
    spec = describe(TENSORRT_RTX, bundle, "denoiser", [size], targets, **more)
    plan = f"for {size.width}".encode()
    return EngineStore().get(spec, "null", lambda: Built(plan, "", {}, 0.0, 0.0, 0.0))


def open_denoiser(bundle: Bundle) -> Any:
    return open_graph(bundle, "denoiser", backend="tensorrt-rtx")


def test_a_run_copies_binds_executes_and_waits(
    recorder: Any, one_graph: Callable[..., Bundle]
) -> None:
    bundle = one_graph()
    keep_engine(bundle, SMALL)
    with open_denoiser(bundle) as session:
        assert recorder.calls == []
        outputs = session.run({"x": feed(SMALL)})
        assert recorder.calls == [
            "deserialize for 4", "set cache",
            "upload 512", "shape x [1, 4, 2, 4, 4]", "bind x", "bind y", "execute on 7",
            "synchronize",
        ]  # fmt: skip
        np.testing.assert_array_equal(np.asarray(outputs["y"]), 2 * feed(SMALL))


def test_what_is_on_the_device_is_bound_where_it_lies(
    recorder: Any, one_graph: Callable[..., Bundle]
) -> None:
    bundle = one_graph()
    keep_engine(bundle, SMALL)
    with open_denoiser(bundle) as first, open_denoiser(bundle) as second:
        tensor = first.run({"x": feed(SMALL)})["y"]
        assert isinstance(tensor, CpuArray)
        recorder.calls.clear()
        result = second.run({"x": tensor})["y"]
        assert not any(call.startswith("upload") for call in recorder.calls)
        assert recorder.contexts[1].addresses["x"] == tensor.pointer
        np.testing.assert_array_equal(np.asarray(result), 4 * feed(SMALL))


@pytest.mark.parametrize(("given", "taken"), [("float16", "float32"), ("int64", "float16")])
def test_every_element_type_arrives_as_it_is(
    given: str, taken: str, one_graph: Callable[..., Bundle]
) -> None:
    bundle = one_graph(given, taken)
    keep_engine(bundle, SMALL)
    values = feed(SMALL, np.dtype(given).type)[..., ::-1]  # not contiguous
    with open_denoiser(bundle) as session:
        result = np.asarray(session.run({"x": values})["y"])
    assert result.dtype == np.dtype(taken)
    np.testing.assert_array_equal(result, 2 * values)


def test_on_a_shared_stream_a_run_does_not_wait(
    recorder: Any, one_graph: Callable[..., Bundle]
) -> None:
    bundle = one_graph()
    keep_engine(bundle, SMALL)
    options = EngineOptions(stream=recorder.stream)
    with open_graph(bundle, "denoiser", backend="tensorrt-rtx", options=options) as session:
        session.run({"x": feed(SMALL)})
        assert recorder.calls[-1] == "execute on 7"
    assert recorder.calls[-1] == "synchronize"


def test_another_size_takes_another_engine(recorder: Any, one_graph: Callable[..., Bundle]) -> None:
    bundle = one_graph()
    keep_engine(bundle, LARGE)
    keep_engine(bundle, SMALL)
    with open_denoiser(bundle) as session:
        for size in (SMALL, SMALL, LARGE):
            session.run({"x": feed(size)})
    opened = [call for call in recorder.calls if call.startswith("deserialize")]
    assert opened == ["deserialize for 4", "deserialize for 6"]


def test_a_size_without_an_engine_names_the_command(
    recorder: Any, one_graph: Callable[..., Bundle]
) -> None:
    bundle = one_graph()
    keep_engine(bundle, SMALL)
    with open_denoiser(bundle) as session, pytest.raises(UserError) as caught:
        session.run({"x": feed(LARGE)})
    assert str(caught.value) == (
        "no engine of denoiser takes batch 1, latent_frames 3, latent_height 8, latent_width 6; "
        f"build one with: mutoscope build {bundle.path} --backend tensorrt-rtx "
        "--profile WIDTHxHEIGHTxFRAMES"
    )


@pytest.mark.parametrize("kind", ["other target", "no weights", "other version"])
def test_an_engine_that_cannot_serve_is_built_anew(
    kind: str,
    recorder: Any,
    one_graph: Callable[..., Bundle],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bundle = one_graph()
    if kind == "other target":
        keep_engine(bundle, SMALL, targets=("sm_86",))
    elif kind == "no weights":
        keep_engine(bundle, SMALL, flags=("strip-weights",))
    else:
        keep_engine(bundle, SMALL)
        sys.modules["tensorrt_rtx"].__version__ = "1.8"  # type: ignore[attr-defined]
    built = []

    def build(store: EngineStore, _bundle: Bundle, spec: Any, *_: Any) -> Engine:
        built.append(spec)
        return store.get(spec, "null", lambda: Built(b"anew", "", {}, 0.0, 0.0, 0.0))

    monkeypatch.setattr(sessions, "build_engine", build)
    with caplog.at_level(logging.INFO, "mutoscope"), open_denoiser(bundle) as session:
        session.run({"x": feed(SMALL)})
    assert caplog.messages == ["building the engine of denoiser, once"]
    assert "deserialize anew" in recorder.calls
    (spec,) = built
    assert (spec.targets, spec.flags, spec.gpu) == (("sm_89",), (), None)


def test_another_store_s_engine_is_set_aside(
    one_graph: Callable[..., Bundle],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bundle = one_graph()
    spec = describe(TENSORRT_RTX, bundle, "denoiser", [SMALL], ["sm_89"])

    def make(store: EngineStore, *_: Any) -> Engine:
        return store.get(spec, "null", lambda: Built(b"anew", "", {}, 0.0, 0.0, 0.0))

    def run() -> None:
        with open_denoiser(bundle) as session:
            session.run({"x": feed(SMALL)})

    monkeypatch.setattr(sessions, "build_engine", make)
    check_anothers_engine(make, run, tmp_path / "theirs", caplog)


def test_a_refused_engine_is_told_in_one_line(
    recorder: Any, one_graph: Callable[..., Bundle]
) -> None:
    bundle = one_graph()
    keep_engine(bundle, SMALL)
    recorder.invalid = 3
    with open_denoiser(bundle) as session, pytest.raises(MutoscopeError) as caught:
        session.run({"x": feed(SMALL)})
    assert str(caught.value) == (
        "denoiser: tensorrt-rtx refuses the engine (version mismatch, unsupported cc); "
        "remove it with: mutoscope engines prune --all"
    )
    assert recorder.calls == []


def test_what_tensorrt_says_is_told_in_one_line(
    recorder: Any, one_graph: Callable[..., Bundle]
) -> None:
    bundle = one_graph()
    keep_engine(bundle, SMALL)
    recorder.opens = False
    with open_denoiser(bundle) as session, pytest.raises(MutoscopeError) as caught:
        session.run({"x": feed(SMALL)})
    assert str(caught.value) == "denoiser: tensorrt-rtx: cannot open its engine: out of memory"
    recorder.opens, recorder.runs = True, False
    with open_denoiser(bundle) as session, pytest.raises(MutoscopeError, match="the run failed"):
        session.run({"x": feed(SMALL)})


@pytest.mark.parametrize(
    ("wanted", "set_to"), [(None, 600), (250, 250), (0, 0), (10_000, 1000)], ids=str
)
def test_the_budget_is_set_before_there_is_a_context(
    wanted: int | None, set_to: int, recorder: Any, one_graph: Callable[..., Bundle]
) -> None:
    bundle = one_graph()
    keep_engine(bundle, SMALL, flags=("weight-streaming",))
    options = EngineOptions(weight_budget=wanted)
    with open_graph(bundle, "denoiser", backend="tensorrt-rtx", options=options) as session:
        session.run({"x": feed(SMALL)})
    assert recorder.calls[:3] == ["deserialize for 4", f"budget {set_to}", "set cache"]


def test_an_engine_that_holds_its_weights_has_no_budget(
    recorder: Any, one_graph: Callable[..., Bundle]
) -> None:
    bundle = one_graph()
    keep_engine(bundle, SMALL)
    options = EngineOptions(weight_budget=250)
    with open_graph(bundle, "denoiser", backend="tensorrt-rtx", options=options) as session:
        session.run({"x": feed(SMALL)})
    assert not any(call.startswith("budget") for call in recorder.calls)


def test_a_budget_that_is_not_taken_is_told(
    recorder: Any, one_graph: Callable[..., Bundle]
) -> None:
    bundle = one_graph()
    keep_engine(bundle, SMALL, flags=("weight-streaming",))
    recorder.takes_budget = False
    with open_denoiser(bundle) as session, pytest.raises(MutoscopeError) as caught:
        session.run({"x": feed(SMALL)})
    assert str(caught.value) == (
        "denoiser: tensorrt-rtx: takes no weight budget of 0 MB: no reason given"
    )


@pytest.mark.parametrize("backend", ["onnxruntime", "null"])
def test_a_budget_is_for_engines_that_stream(backend: str, bundle: Bundle) -> None:
    with pytest.raises(UserError) as caught:
        Sessions(bundle, backend, EngineOptions(weight_budget=250))
    assert str(caught.value) == (
        f"the backend {backend!r} holds all weights of an engine; --weight-budget is for "
        "tensorrt and tensorrt-rtx"
    )
    with pytest.raises(UserError, match="weight_budget must be a number of bytes, not -1"):
        EngineOptions(weight_budget=-1)


def test_an_engine_of_another_interface_is_refused(
    recorder: Any, one_graph: Callable[..., Bundle]
) -> None:
    bundle = one_graph()
    keep_engine(bundle, SMALL)
    model = recorder.model("")
    model.tensors["y"] = ("float16", False)
    recorder.model = lambda plan: model
    with open_denoiser(bundle) as session, pytest.raises(BundleError, match="has other inputs or"):
        session.run({"x": feed(SMALL)})


def test_what_was_compiled_is_kept_for_the_next_start(
    recorder: Any, one_graph: Callable[..., Bundle]
) -> None:
    bundle = one_graph()
    keep_engine(bundle, SMALL)
    for _ in range(2):
        with open_denoiser(bundle) as session:
            session.run({"x": feed(SMALL)})
            session.close()
    assert recorder.caches == [b"compiled for this device"]


def test_no_gpu_is_told_before_anything_else(
    bundle: Bundle, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> Any:
        raise UserError("no NVIDIA GPU 0 that CUDA can use")

    monkeypatch.setattr(tensorrt, "open_device", none)
    with pytest.raises(UserError, match="no NVIDIA GPU 0"):
        open_denoiser(bundle)


@pytest.mark.parametrize(
    ("backend", "missing", "extra"),
    [
        ("tensorrt", "tensorrt", "tensorrt"),
        ("tensorrt-rtx", "tensorrt_rtx", "rtx"),
        ("tensorrt-rtx", "cuda.core", "kernels"),
    ],
)
def test_a_missing_package_names_the_extra(
    backend: str,
    missing: str,
    extra: str,
    bundle: Bundle,
    recorder: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(tensorrt, "open_device", open_device)
    package = "cuda-core" if missing == "cuda.core" else backend
    with pytest.raises(UserError) as caught:
        open_graph(bundle, "denoiser", backend=backend)
    assert str(caught.value) == (
        f"{package} is not installed; install it with: pip install 'mutoscope[{extra}]'"
    )


def test_a_gpu_that_is_not_built_for_is_named(
    recorder: Any, one_graph: Callable[..., Bundle]
) -> None:
    bundle = one_graph()
    with pytest.raises(UserError) as caught:
        describe(TENSORRT_RTX, bundle, "denoiser", [SMALL], ["sm_90"])
    assert str(caught.value) == (
        "unknown compute capability 'sm_90'; did you mean 'sm_89'? (known: sm_86, sm_89)"
    )
