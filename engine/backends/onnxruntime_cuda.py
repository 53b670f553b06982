"""ONNX Runtime on an NVIDIA GPU: arrays are bound where they lie, all work is on one stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import BundleError, MissingExtraError, UserError
from ...kernels.device import DTYPES, DeviceArray, Stream
from ...kernels.devices import open_device
from ..bundle import Bundle
from ..int8_attention import OPERATOR, takes_part
from ..lora import Merged, check_loras
from ..manifest import DENOISERS, GraphSpec
from ..onnx_file import parse
from ..open import EngineOptions
from ..session import Tensor, axis_length, check_feeds, on_stream, room
from .onnxruntime.int8_attention import attend_in_int8, int8_operators
from .onnxruntime.placement import check_placement, shape_nodes
from .onnxruntime.rewrite import rewrite_for_gpu
from .onnxruntime.session import CPU, OnnxRuntimeSession, Provider, open_checked, own_content

__all__ = ["check_loras", "open_session", "open_stream"]
CUDA = "CUDAExecutionProvider"
DEVICE = "cuda"
ASYNCHRONOUS = "disable_synchronize_execution_providers"
NO_CUDA = (
    "ONNX Runtime cannot load its CUDA part; install CUDA's and cuDNN's libraries of the version "
    "it was built for, or use --backend onnxruntime"
)
NO_KERNEL = "Could not find an implementation for"
"""What ONNX Runtime says where none of its providers runs a node; CUDA's alone runs our own."""


class BoundSession(OnnxRuntimeSession):
    """A graph on a GPU, bound to its memory; outputs stay there.

    On a stream that is shared a run returns once it is in the stream, else when it is done.
    """

    def __init__(
        self, name: str, interface: GraphSpec, native: Any, stream: Stream, *, shared: bool
    ) -> None:
        super().__init__(name, interface, native)
        self._stream, self._shared = stream, shared

    def _run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self._run_into(feeds, {})

    def _run_into(
        self, feeds: Mapping[str, Tensor], into: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        axes = check_feeds(self.name, self.inputs, feeds)
        inputs = {name: on_stream(self._stream, feed) for name, feed in feeds.items()}
        outputs: dict[str, DeviceArray] = {}
        for name, spec in self.outputs.items():
            shape = [axis_length(axis, axes) for axis in spec.shape]
            outputs[name] = room(self._stream, into, name, shape, spec.dtype)

        index = self._stream.device.index

        def run(options: Any) -> None:
            options.add_run_config_entry(ASYNCHRONOUS, "1")
            binding = self._native.io_binding()
            for name, array in inputs.items():
                binding.bind_input(name, DEVICE, index, *_memory(array))
            for name, array in outputs.items():
                binding.bind_output(name, DEVICE, index, *_memory(array))
            self._native.run_with_iobinding(binding, options)

        self._finish(run)
        if not self._shared:
            self._stream.synchronize()
        return dict(outputs)


class CudaSession(BoundSession):
    """On CUDA's kernels; what computes shapes is the CPU's, and nothing else."""

    def __init__(self, bundle: Bundle, name: str, options: EngineOptions, stream: Stream) -> None:
        interface, content = bundle.graph(name), content_for_gpu(bundle, name, options)
        own = in_int8(bundle, name, options)
        operators = int8_operators(stream.device.arch) if own else None
        chosen = providers(stream)
        try:
            native = open_checked(bundle, name, options, interface, content, chosen, operators)
        except BundleError as error:
            if f"{NO_KERNEL} {OPERATOR}" not in str(error):
                raise
            raise UserError(NO_CUDA) from error
        super().__init__(name, interface, native, stream, shared=options.stream is not None)
        if CUDA not in native.get_providers():
            raise UserError(NO_CUDA)
        shapes = shape_nodes(parse(content.model, bundle.file(interface.file)).graph)
        check_placement(name, native, CUDA, shapes)
        self.kernels = (OPERATOR,) if own else ()


def in_int8(bundle: Bundle, name: str, options: EngineOptions) -> bool:
    """Whether our own operator computes a graph's attention.

    Raises:
        UserError: it has no heads of the denoiser's size.
    """
    return options.int8_attention and takes_part(bundle, name)


def content_for_gpu(
    bundle: Bundle, name: str, options: EngineOptions, *, fused: bool = True
) -> Merged:
    """What is opened in place of a graph's file; `fused`: with ONNX Runtime's own operators."""
    path = bundle.file(bundle.graph(name).file)
    own = own_content(bundle, name, options) or Merged(path.read_bytes(), {})
    model = parse(own.model, path)
    if in_int8(bundle, name, options):
        attend_in_int8(model)
    rewrite_for_gpu(model, bundle.manifest.denoiser if fused and name in DENOISERS else None)
    return Merged(model.SerializeToString(), own.weights)


def providers(stream: Stream) -> list[Provider]:
    """The stream's GPU, working on it, and the CPU, for shapes.

    Without TF32: an fp32 bundle is computed in fp32, as everywhere.
    """
    on_gpu = {
        "device_id": str(stream.device.index),
        "user_compute_stream": str(stream.handle),
        "use_tf32": "0",
    }
    return [(CUDA, on_gpu), CPU]


def open_stream() -> Stream:
    """A stream of the NVIDIA GPU that `kernels.devices` opens, for sessions to share.

    Raises:
        MissingExtraError: onnxruntime-gpu is not installed, or cuda-core is not.
        UserError: there is no NVIDIA driver, or no GPU, or the GPU's context is none that ONNX
            Runtime works in.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime-gpu", "cuda") from None
    if CUDA not in onnxruntime.get_available_providers():
        raise UserError(
            "the onnxruntime that is installed is for CPUs; replace it with: "
            "pip uninstall onnxruntime; pip install 'mutoscope[cuda]'"
        )
    onnxruntime.preload_dlls()
    return primary_stream()


def primary_stream() -> Stream:
    """A stream of the GPU, in the context that ONNX Runtime works in.

    Raises:
        MissingExtraError: cuda-core is not installed.
        UserError: there is no NVIDIA driver, or no GPU, or its context is another.
    """
    device = open_device()
    if not device.primary:
        raise UserError(
            "ONNX Runtime works in a GPU's primary context alone: import pycuda.autoprimaryctx in "
            "place of pycuda.autoinit, or use --backend tensorrt-rtx"
        )
    return device.stream()


def open_session(bundle: Bundle, name: str, options: EngineOptions) -> CudaSession:
    """Open a graph on the stream of the options, or on one of its own; raises as that does.

    Raises:
        BundleError: ONNX Runtime refuses the graph.
        UserError: a LoRA does not fit, or a node has no kernel on the GPU.
    """
    bundle.graph(name)
    return CudaSession(bundle, name, options, options.stream or open_stream())


def _memory(array: DeviceArray) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    return DTYPES[array.dtype], array.shape, array.pointer
