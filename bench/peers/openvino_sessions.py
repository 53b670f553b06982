"""Our bundles on OpenVINO: it reads the same ONNX files, and stands in ours' place.

Each graph is compiled for the shapes it is run with, which suits OpenVINO better than axes left
open; bf16 is its own precision hint, int8 NNCF's compression of weights, to which OpenVINO adds
activations quantised as it goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...engine import Bundle, EngineOptions, Session, Sessions, Tensor

HINTS = {"f32": "f32", "bf16": "bf16", "int8": "f32", "int8+bf16": "bf16"}
"""What each way computes in, where it is not int8."""


class OpenVinoSessions(Sessions):
    """A bundle's sessions on OpenVINO.

    Args:
        way: one of `HINTS`.

    Raises:
        ModuleNotFoundError: OpenVINO, or for int8 NNCF, is not installed.
    """

    def __init__(self, bundle: Bundle, way: str, options: EngineOptions) -> None:
        super().__init__(bundle, "onnxruntime", options, opener=OpenVino(way))
        self.backend = f"openvino {way}"

    def rest(self) -> None:
        """Give back what was computed along the way; compiled graphs stay."""
        for session in self._opened.values():
            assert isinstance(session, OpenVinoSession)
            session.rest()


class OpenVino:
    """What opens a graph."""

    def __init__(self, way: str) -> None:
        import openvino

        self._core = openvino.Core()
        self._way = way

    def open_session(self, bundle: Bundle, name: str, options: EngineOptions) -> Session:
        """Read a graph; it is compiled once its shapes are known."""
        model = self._core.read_model(bundle.file(bundle.graph(name).file))
        if self._way.startswith("int8"):
            import nncf

            model = nncf.compress_weights(model)
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": HINTS[self._way],
            "PERFORMANCE_HINT": "LATENCY",
            **({"INFERENCE_NUM_THREADS": options.threads} if options.threads else {}),
        }

        def compiled(shapes: Mapping[str, tuple[int, ...]]) -> Any:
            fixed = model.clone()
            fixed.reshape({name: list(shape) for name, shape in shapes.items()})
            return self._core.compile_model(fixed, "CPU", settings)

        return OpenVinoSession(bundle, name, compiled)


class OpenVinoSession(Session):
    """A graph that OpenVINO has read."""

    def __init__(self, bundle: Bundle, name: str, compiled: Any) -> None:
        super().__init__(name, bundle.graph(name))
        self._compile = compiled
        self._compiled: dict[tuple[tuple[int, ...], ...], Any] = {}

    def _run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        arrays = {name: np.asarray(feeds[name]) for name in self.inputs}
        shapes = {name: array.shape for name, array in arrays.items()}
        key = tuple(shapes.values())
        if key not in self._compiled:
            self._compiled[key] = self._compile(shapes)
        # a request of its own: outputs lie in its memory, and one run's are the next one's inputs
        request = self._compiled[key].create_infer_request()
        results = request.infer(arrays, share_inputs=True, share_outputs=True)
        return {name: results[name] for name in self.outputs}

    def rest(self) -> None:
        """Give back what lies between inputs and outputs."""
        for compiled in self._compiled.values():
            compiled.release_memory()

    def close(self) -> None:
        """Give back the memory."""
        self._compiled.clear()
