"""ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import BundleError, MissingExtraError, MutoscopeError
from ..bundle import Bundle
from ..lora import Merged, check_loras, merge
from ..manifest import GraphSpec
from ..open import EngineOptions
from ..session import Session, Tensor

__all__ = ["check_loras", "open_session"]
FOLDER_OF_WEIGHTS = "session.model_external_initializers_file_folder_path"


class OnnxRuntimeSession(Session):
    """An `onnxruntime.InferenceSession` behind the session protocol.

    Arrays go in and come out without a copy: ONNX Runtime binds NumPy's memory and lends its own.
    Runs happen in a thread of their own, so that Ctrl-C is heard at once and ends them too.
    """

    def __init__(
        self,
        name: str,
        graph: GraphSpec,
        path: Path,
        options: EngineOptions,
        merged: Merged | None = None,
    ) -> None:
        super().__init__(name, graph)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._native: Any = _open_native(path, options, merged)
        self._check_interface(path)

    def _run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self._native is None:
            raise MutoscopeError(f"{self.name}: the session is closed")
        from onnxruntime import RunOptions

        names, options = list(self.outputs), RunOptions()
        arrays = {name: np.asarray(tensor) for name, tensor in feeds.items()}
        running = self._worker.submit(self._native.run, names, arrays, options)
        try:
            values = running.result()
        except Exception as error:
            # onnxruntime's exceptions share no base class but Exception
            raise MutoscopeError(f"{self.name}: ONNX Runtime failed: {_one_line(error)}") from error
        except BaseException:
            options.terminate = True
            raise
        return dict(zip(names, values, strict=True))

    def close(self) -> None:
        """Give back the memory. A second call does nothing."""
        self._worker.shutdown(wait=False)
        self._native = None

    def _check_interface(self, path: Path) -> None:
        got = [
            {t.name for t in tensors}
            for tensors in (self._native.get_inputs(), self._native.get_outputs())
        ]
        if got != [set(self.inputs), set(self.outputs)]:
            raise BundleError(
                f"{path} has other inputs or outputs than bundle.json says; export the bundle again"
            )


def open_session(bundle: Bundle, name: str, options: EngineOptions) -> OnnxRuntimeSession:
    """Open a graph on the CPU.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        BundleError: ONNX Runtime refuses the graph.
        UserError: a LoRA does not fit.
    """
    graph = bundle.graph(name)
    changed = options.loras and graph.lora is not None
    merged = merge(bundle, name, options.loras) if changed else None
    return OnnxRuntimeSession(name, graph, bundle.file(graph.file), options, merged)


def _open_native(path: Path, options: EngineOptions, merged: Merged | None) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime", "cpu") from None
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads or len(os.sched_getaffinity(0))
    settings.log_severity_level = 3
    settings.enable_mem_pattern = False  # its block comes on top of what the arena already holds
    model = _replace_weights(settings, path, merged) if merged else path
    try:
        return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise BundleError(f"ONNX Runtime cannot open {path}: {_one_line(error)}") from error


def _replace_weights(settings: Any, path: Path, merged: Merged) -> bytes:
    """Let a session take some weights from memory, the others from the files beside `path`."""
    from onnxruntime import OrtValue

    values = [OrtValue.ortvalue_from_numpy(weight) for weight in merged.weights.values()]
    settings.add_session_config_entry(FOLDER_OF_WEIGHTS, str(path.parent))
    # before the graph is optimised; `add_initializer` comes too late for what is folded into others
    settings.add_external_initializers(list(merged.weights), values)
    return merged.model


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
