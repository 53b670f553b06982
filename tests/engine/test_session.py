"""What a session checks before it runs."""

from __future__ import annotations

import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mutoscope.engine import Bundle, EngineOptions, Sessions, open_graph
from mutoscope.engine.backends.onnxruntime.session import OnnxRuntimeSession
from mutoscope.errors import BundleError, MutoscopeError, UserError


def feeds(**changes: Any) -> dict[str, Any]:
    zeros = {
        "hidden_states": np.zeros((2, 4, 3, 5, 6), np.float32),
        "timestep": np.zeros(2, np.float32),
        "encoder_hidden_states": np.zeros((2, 7, 6), np.float32),
    }
    return {**zeros, **changes}


def test_null_backend_answers_in_shape(bundle: Bundle) -> None:
    with open_graph(bundle, "denoiser", backend="null") as session:
        outputs = session.run(feeds())
    assert outputs["sample"].shape == (2, 4, 3, 5, 6)
    assert outputs["sample"].dtype == np.float32


def test_null_backend_multiplies_axes(bundle: Bundle) -> None:
    with open_graph(bundle, "vae_decoder_first", backend="null") as session:
        outputs = session.run({"latents": np.zeros((1, 4, 1, 5, 6), np.float32)})
    assert outputs["frames"].shape == (1, 3, 1, 40, 48)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mask": np.zeros(1)}, "denoiser wants inputs ['encoder_hidden_states', 'hidden_states'"),
        (
            {"timestep": np.zeros(2)},
            "denoiser: input 'timestep' wants float32 ['batch'], got float64 [2]",
        ),
        (
            {"timestep": np.zeros(3, np.float32)},
            "denoiser: input 'timestep' wants float32 ['batch'], got float32 [3]",
        ),
        (
            {"hidden_states": np.zeros((2, 5, 3, 5, 6), np.float32)},
            "denoiser: input 'hidden_states' wants float32 ['batch', 4, 'frames', 'height', 'wi",
        ),
    ],
)
def test_wrong_feeds(bundle: Bundle, changes: dict[str, Any], told: str) -> None:
    session = open_graph(bundle, "denoiser", backend="null")
    with pytest.raises(MutoscopeError) as caught:
        session.run(feeds(**changes))
    assert str(caught.value).startswith(told)


def test_sessions_open_once_and_close_all(bundle: Bundle) -> None:
    with Sessions(bundle, "null", EngineOptions()) as sessions:
        first = sessions("denoiser")
        assert sessions("denoiser") is first
    assert sessions("denoiser") is not first


class OneStream:
    """As far as it is asked who holds it."""


class OnGpu:
    """A backend of a GPU's, as far as its streams go."""

    def __init__(self) -> None:
        self.opened: list[weakref.ref[Any]] = []

    def open_stream(self) -> Any:
        stream = OneStream()
        self.opened.append(weakref.ref(stream))
        return stream

    def open_session(self, bundle: Bundle, name: str, options: EngineOptions) -> Any:
        return SimpleNamespace(stream=options.stream, kernels=(), close=lambda: None)


def test_a_stream_of_their_own_ends_with_the_sessions(bundle: Bundle) -> None:
    backend: Any = OnGpu()
    sessions = Sessions(bundle, "null", EngineOptions(), opener=backend)
    (first,) = {id(sessions(name).stream) for name in ("denoiser", "text_encoder")}
    assert first == id(sessions.stream)
    sessions.close()
    sessions.close()
    assert [stream() for stream in backend.opened] == [None]
    assert sessions("denoiser").stream is sessions.stream is backend.opened[1]()


def test_a_stream_that_arrays_are_on_goes_on(bundle: Bundle) -> None:
    """Another would not wait for what is in it."""
    backend: Any = OnGpu()
    sessions = Sessions(bundle, "null", EngineOptions(), opener=backend)
    array = SimpleNamespace(stream=sessions.stream)
    sessions.close()
    assert sessions("denoiser").stream is array.stream
    assert len(backend.opened) == 1


def test_a_stream_that_was_given_stays_the_giver_s(bundle: Bundle) -> None:
    given: Any = SimpleNamespace()
    backend: Any = OnGpu()
    with Sessions(bundle, "null", EngineOptions(stream=given), opener=backend) as sessions:
        assert sessions("denoiser").stream is given
    assert sessions.stream is given
    assert backend.opened == []


def test_unknown_backend(bundle: Bundle) -> None:
    with pytest.raises(UserError) as caught:
        open_graph(bundle, "denoiser", backend="onxruntime")
    assert str(caught.value) == (
        "unknown backend 'onxruntime'; did you mean 'onnxruntime'? "
        "(known: null, onnxruntime, onnxruntime-cuda, onnxruntime-rtx, tensorrt, tensorrt-rtx)"
    )


@pytest.mark.parametrize("threads", [0, -1, 9999])
def test_threads_are_the_machines(threads: int) -> None:
    with pytest.raises(UserError, match=f"threads must be between 1 and .* here, not {threads}"):
        EngineOptions(threads=threads)


def test_onnxruntime_refuses_what_is_no_graph(bundle: Bundle, bundle_folder: Path) -> None:
    path = bundle_folder / "text_encoder.onnx"
    with pytest.raises(BundleError) as caught:
        open_graph(bundle, "text_encoder")
    assert str(caught.value).startswith(f"ONNX Runtime cannot open {path}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match=r"denoiser.onnx is no ONNX file; export the bundle aga"):
        open_graph(bundle, "denoiser")


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ("Failed to allocate memory for requested buffer of size 5", MemoryError),
        ("std::bad_alloc", MemoryError),
        ("CUDA failure 2: out of memory; Failed to allocate memory", MutoscopeError),
        ("Invalid argument", MutoscopeError),
    ],
)
def test_onnxruntime_without_memory_is_told_apart(
    bundle: Bundle, told: str, kind: type[Exception]
) -> None:
    pytest.importorskip("onnxruntime", reason="the cpu extra is not installed")

    class Failing:
        def run(self, *given: Any) -> Any:
            raise RuntimeError(told)

    session = OnnxRuntimeSession("denoiser", bundle.graph("denoiser"), Failing())
    with session, pytest.raises(kind, match=r"^denoiser: "):
        session.run(feeds())


def test_missing_onnxruntime_names_the_extra(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(UserError) as caught:
        open_graph(bundle, "denoiser")
    assert str(caught.value) == (
        "onnxruntime is not installed; install it with: pip install 'mutoscope[cpu]'"
    )
