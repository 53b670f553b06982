"""ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import BundleError, MissingExtraError, MutoscopeError
from ..bundle import Bundle
from ..lora import Merged, check_loras, merge
from ..manifest import GraphSpec
from ..open import EngineOptions
from ..session import Session, Tensor

__all__ = ["Changed", "check_loras", "open_changed", "open_session"]
CPU = "CPUExecutionProvider"
Provider = str | tuple[str, dict[str, str]]
"""What runs the nodes of a graph, by ONNX Runtime's name, with its options where it has any."""

FOLDER_OF_WEIGHTS = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True)
class Changed:
    """A graph of a bundle in another form: what it takes and gives, its nodes and some weights."""

    interface: GraphSpec
    content: Merged


class OnnxRuntimeSession(Session):
    """An `onnxruntime.InferenceSession` behind the session protocol.

    Arrays go in and come out without a copy: ONNX Runtime binds NumPy's memory and lends its own.
    Runs happen in a thread of their own, so that Ctrl-C is heard at once and ends them too.
    """

    def __init__(
        self,
        bundle: Bundle,
        name: str,
        options: EngineOptions,
        providers: Sequence[Provider] = (CPU,),
        changed: Changed | None = None,
    ) -> None:
        super().__init__(name, changed.interface if changed else bundle.graph(name))
        path = bundle.file(bundle.graph(name).file)
        merged = changed.content if changed else None
        if options.loras and bundle.graph(name).lora is not None:
            merged = merge(bundle, name, options.loras)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._native: Any = _open_native(path, options, merged, providers)
        self._check_interface(path)

    def _run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        names = list(self.outputs)
        arrays = {name: np.asarray(tensor) for name, tensor in feeds.items()}
        values = self._finish(lambda native, options: native.run(names, arrays, options))
        return dict(zip(names, values, strict=True))

    def _finish(self, run: Callable[[Any, Any], Any]) -> Any:
        """What a native run gives, which ends where the user interrupts it.

        Args:
            run: of the native session and its `RunOptions`.
        """
        if self._native is None:
            raise MutoscopeError(f"{self.name}: the session is closed")
        from onnxruntime import RunOptions

        options = RunOptions()
        running = self._worker.submit(run, self._native, options)
        try:
            return running.result()
        except Exception as error:
            # onnxruntime's exceptions share no base class but Exception
            raise MutoscopeError(f"{self.name}: ONNX Runtime failed: {_one_line(error)}") from error
        except BaseException:
            options.terminate = True
            raise

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
    return OnnxRuntimeSession(bundle, name, options)


def open_changed(
    bundle: Bundle, name: str, options: EngineOptions, changed: Changed
) -> OnnxRuntimeSession:
    """Open a graph in another form than its file has; raises as `open_session`."""
    return OnnxRuntimeSession(bundle, name, options, changed=changed)


def _open_native(
    path: Path, options: EngineOptions, merged: Merged | None, providers: Sequence[Provider]
) -> Any:
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
        return onnxruntime.InferenceSession(model, settings, providers=list(providers))
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
