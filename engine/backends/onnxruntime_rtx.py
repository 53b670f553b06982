"""ONNX Runtime with TensorRT-RTX: its plugin compiles graphs for the GPU as they are opened."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from ...errors import BundleError, MissingExtraError, UserError
from ...kernels.device import Stream
from ..bundle import Bundle
from ..lora import check_loras
from ..manifest import GraphSpec
from ..open import EngineOptions
from ..profiles import profile_around
from ..session import Tensor, axis_length, check_feeds
from ..spec import Profile, covers
from .onnxruntime.session import open_checked, package
from .onnxruntime_cuda import BoundSession, content_for_gpu, primary_stream

__all__ = ["check_loras", "open_session", "open_stream"]
PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"
RTX = "NvTensorRTRTXExecutionProvider"
WITHOUT_CPU = "session.disable_cpu_ep_fallback"
MESSAGE = 1 << 31
"""Bytes that a protobuf message must stay below; the plugin takes larger weights apart from it."""


class RtxSession(BoundSession):
    """A graph on the GPU; its outputs stay there, and nothing of it runs on the CPU.

    It is compiled at the first run, when shapes are known, and anew when others come.
    """

    def __init__(self, bundle: Bundle, name: str, options: EngineOptions, stream: Stream) -> None:
        super().__init__(name, bundle.graph(name), None, stream, shared=options.stream is not None)
        self._bundle, self._options = bundle, options
        self._profile: Profile | None = None

    def _run_into(
        self, feeds: Mapping[str, Tensor], into: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        axes = check_feeds(self.name, self.inputs, feeds)
        if self._profile is None or not covers(self._profile, axes):
            self._profile = profile_around(self._bundle.manifest, self.name, axes)
            self._native = None  # its memory goes back before the next takes some
            self._native = self._open(self._profile)
        return super()._run_into(feeds, into)

    def _open(self, profile: Profile) -> Any:
        bundle, name, options = self._bundle, self.name, self._options
        graph = bundle.graph(name)
        weights = sum(bundle.manifest.files[file].size for file in graph.data)
        chosen = provider_options(graph, profile, self._stream, apart=weights >= MESSAGE)
        content = content_for_gpu(bundle, name, options, fused=False)
        try:
            native = open_checked(bundle, name, options, graph, content, on_gpu(gpus(), chosen))
        except BundleError as error:
            raise BundleError(f"{error}; use --backend onnxruntime-cuda") from error
        if RTX not in native.get_providers():
            raise UserError(
                f"ONNX Runtime did not take TensorRT-RTX for {name}; use --backend onnxruntime-cuda"
            )
        return native


def provider_options(
    graph: GraphSpec, profile: Profile, stream: Stream, *, apart: bool
) -> dict[str, str]:
    """What the provider is told: the stream that it works on, and the shapes that it compiles for.

    Args:
        graph: whose inputs.
        profile: the lengths of their named axes.
        stream: of the GPU.
        apart: whether weights are handed over apart from the graph.
    """
    shapes = {}
    for index, kind in enumerate(("min", "opt", "max")):
        axes = {axis: lengths[index] for axis, lengths in profile.items()}
        inputs = (
            f"{tensor.name}:{'x'.join(str(axis_length(axis, axes)) for axis in tensor.shape)}"
            for tensor in graph.inputs
        )
        shapes[f"nv_profile_{kind}_shapes"] = ",".join(inputs)
    return {
        "has_user_compute_stream": "1",
        "user_compute_stream": str(stream.handle),
        "nv_use_external_data_initializer": str(int(apart)),
        **shapes,
    }


def on_gpu(devices: Sequence[Any], options: dict[str, str]) -> Callable[[Any], None]:
    """What sets up `SessionOptions`: that provider alone; a node that it leaves is an error."""

    def set_up(settings: Any) -> None:
        settings.add_session_config_entry(WITHOUT_CPU, "1")
        settings.add_provider_for_devices(list(devices), options)

    return set_up


def gpus() -> list[Any]:
    """The first GPU that the provider runs on, as ONNX Runtime knows it.

    Raises:
        MissingExtraError: onnxruntime or the plugin is not installed.
        UserError: the plugin does not load, or there is no GPU for it.
    """
    _register()
    found = [device for device in package().get_ep_devices() if device.ep_name == RTX]
    if not found:
        raise UserError(
            "TensorRT-RTX runs on no GPU here, it wants a GeForce or RTX card of Ampere or later; "
            "use --backend onnxruntime-cuda"
        )
    return found[:1]


def open_stream() -> Stream:
    """A stream of the NVIDIA GPU that `kernels.devices` opens, for sessions to share.

    Raises:
        MissingExtraError: onnxruntime, its plugin or cuda-core is not installed.
        UserError: there is no NVIDIA driver, or no GPU for it, or its context is none that ONNX
            Runtime works in.
    """
    gpus()
    return primary_stream()


def open_session(bundle: Bundle, name: str, options: EngineOptions) -> RtxSession:
    """Open a graph on the stream of the options, or on one of its own; raises as that does."""
    bundle.graph(name)
    return RtxSession(bundle, name, options, options.stream or open_stream())


@cache
def _register() -> None:
    """Load the plugin into ONNX Runtime, which takes it once a process."""
    onnxruntime = package()
    try:
        plugin = importlib.import_module(PLUGIN)
    except ImportError:
        raise MissingExtraError("onnxruntime-ep-nv-tensorrt-rtx", "onnxruntime-rtx") from None
    try:
        onnxruntime.register_execution_provider_library(RTX, plugin.get_library_path())
    except Exception as error:
        # onnxruntime's exceptions share no base class but Exception
        reason = " ".join(str(error).split())
        raise UserError(
            "ONNX Runtime cannot load its TensorRT-RTX plugin; install NVIDIA's driver, or use "
            f"--backend onnxruntime ({reason})"
        ) from error
