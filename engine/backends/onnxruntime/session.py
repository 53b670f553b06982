"""A graph of a bundle in ONNX Runtime, as it stands there or with other weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....errors import BundleError, MissingExtraError, MutoscopeError
from ...bundle import Bundle
from ...lora import Merged, changing, merge
from ...manifest import GraphSpec, Precision
from ...memory import return_free_memory
from ...onnx_file import FLOAT8, FLOAT8_NAME
from ...open import EngineOptions
from ...session import Session, Tensor
from .placement import RECORD

CPU = "CPUExecutionProvider"
Provider = str | tuple[str, dict[str, str]]
"""What runs the nodes of a graph, by ONNX Runtime's name, with its options where it has any."""

SetUp = Callable[[Any], None]
"""What says the same in `SessionOptions` itself, as providers that are plugged in need it."""

SHORT_OF_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate memory")
"""What ONNX Runtime says in errors of several types."""

FOLDER_OF_WEIGHTS = "session.model_external_initializers_file_folder_path"
AS_WRITTEN = "session.disable_quant_qdq"
"""Q/DQ pairs stay as they are, and weights are decoded as the graph is opened. Else ONNX Runtime
1.31 makes operators of float8 products that it has for integers alone, and of roundings of fp16 to
float8 those to integers."""


class OnnxRuntimeSession(Session):
    """An `onnxruntime.InferenceSession` behind the session protocol.

    Arrays go in and come out without a copy: ONNX Runtime binds NumPy's memory and lends its own.
    Runs happen in a thread of their own, so that Ctrl-C is heard at once and ends them too.
    """

    def __init__(self, name: str, interface: GraphSpec, native: Any) -> None:
        super().__init__(name, interface)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._native = native

    def _run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self._compute(self._native, feeds, self.outputs)

    def _compute(
        self, native: Any, feeds: Mapping[str, Tensor], outputs: Iterable[str]
    ) -> dict[str, Tensor]:
        names = list(outputs)
        arrays = {name: np.asarray(tensor) for name, tensor in feeds.items()}
        values = self._finish(lambda options: native.run(names, arrays, options))
        return dict(zip(names, values, strict=True))

    def _finish(self, run: Callable[[Any], Any]) -> Any:
        """What a native run gives, which ends where the user interrupts it.

        Args:
            run: of `RunOptions`.
        """
        if self._native is None:
            raise MutoscopeError(f"{self.name}: the session is closed")
        from onnxruntime import RunOptions

        options = RunOptions()
        running = self._worker.submit(run, options)
        try:
            return running.result()
        except Exception as error:
            # onnxruntime's exceptions share no base class but Exception
            _check_memory(self.name, error)
            raise MutoscopeError(f"{self.name}: ONNX Runtime failed: {_one_line(error)}") from error
        except BaseException:
            options.terminate = True
            raise

    def close(self) -> None:
        """Give back the memory. A second call does nothing."""
        self._worker.shutdown(wait=False)
        self._native = None
        return_free_memory()


def package() -> Any:
    """The module `onnxruntime`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime", "cpu") from None
    return onnxruntime


def own_content(bundle: Bundle, name: str, options: EngineOptions) -> Merged | None:
    """A graph with the LoRAs of the options added; `None` where its file is as it should be.

    Raises:
        UserError: a LoRA does not fit.
    """
    if bundle.graph(name).lora is not None and changing(name, options.loras):
        return merge(bundle, name, options.loras)
    return None


def open_native(
    path: Path,
    precision: Precision,
    options: EngineOptions,
    content: Merged | None = None,
    providers: Sequence[Provider] | SetUp = (CPU,),
    operators: Path | None = None,
) -> Any:
    """An `onnxruntime.InferenceSession`.

    Args:
        path: of the graph's file, with its weights beside it.
        precision: of the graph.
        options: the number of threads.
        content: what to open in place of the file.
        providers: what runs the nodes.
        operators: a library of them beside ONNX Runtime's own.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        BundleError: ONNX Runtime refuses the graph.
    """
    onnxruntime = package()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads or len(os.sched_getaffinity(0))
    settings.log_severity_level = 3
    settings.enable_mem_pattern = False  # its block comes on top of what the arena already holds
    if precision == "fp8":
        settings.add_session_config_entry(AS_WRITTEN, "1")
    if operators is not None:
        settings.register_custom_ops_library(str(operators))
    model = _replace(settings, path, content) if content else path
    try:
        if callable(providers):
            providers(settings)
            return onnxruntime.InferenceSession(model, settings)
        if list(providers) != [CPU]:
            settings.add_session_config_entry(RECORD, "1")
        return onnxruntime.InferenceSession(model, settings, providers=list(providers))
    except Exception as error:
        _check_memory(path.stem, error)
        raise BundleError(f"ONNX Runtime cannot open {path}: {_one_line(error)}") from error


def _check_memory(name: str, error: Exception) -> None:
    """Say by its own type that the machine's memory did not suffice; a GPU's is another matter."""
    told = str(error)
    if any(words in told for words in SHORT_OF_MEMORY) and "CUDA" not in told:
        raise MemoryError(f"{name}: {_one_line(error)}") from error


def open_checked(
    bundle: Bundle,
    name: str,
    options: EngineOptions,
    interface: GraphSpec,
    content: Merged | None,
    providers: Sequence[Provider] | SetUp = (CPU,),
    operators: Path | None = None,
) -> Any:
    """As `open_native`, for a graph of a bundle, which takes and gives what is said."""
    path = bundle.file(bundle.graph(name).file)
    native = open_native(path, interface.precision, options, content, providers, operators)
    check_interface(path, interface, native.get_inputs(), native.get_outputs())
    return native


def check_interface(
    path: Path, interface: GraphSpec, inputs: Iterable[Any], outputs: Iterable[Any]
) -> None:
    """Compare what a graph takes and gives with what its bundle says.

    Raises:
        BundleError: their names differ.
    """
    said = [{spec.name for spec in specs} for specs in (interface.inputs, interface.outputs)]
    if said != [{tensor.name for tensor in tensors} for tensors in (inputs, outputs)]:
        raise BundleError(
            f"{path} has other inputs or outputs than bundle.json says; export the bundle again"
        )


def _replace(settings: Any, path: Path, content: Merged) -> bytes:
    """Let a session take some weights from memory, the others from the files beside `path`."""
    values = [_value(weight) for weight in content.weights.values()]
    settings.add_session_config_entry(FOLDER_OF_WEIGHTS, str(path.parent))
    # before the graph is optimised; `add_initializer` comes too late for what is folded into others
    settings.add_external_initializers(list(content.weights), values)
    return content.model


def _value(weight: NDArray[Any]) -> Any:
    """A weight as ONNX Runtime takes it, which knows no float8 of NumPy's."""
    from onnxruntime import OrtValue

    if weight.dtype.name == FLOAT8_NAME:
        return OrtValue.ortvalue_from_numpy_with_onnx_type(weight, FLOAT8)
    return OrtValue.ortvalue_from_numpy(weight)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
