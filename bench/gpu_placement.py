"""Where ONNX Runtime runs the nodes of a graph: on the GPU, or on the CPU for want of a kernel."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import Bundle
from .gpu_engines import Case

KERNEL = "_kernel_time"
SUFFIX = "ExecutionProvider"


def placement(
    path: Path, providers: Sequence[Any], feeds: Mapping[str, np.ndarray[Any, Any]]
) -> dict[str, dict[str, int]]:
    """How many nodes of each kind each provider ran, the most frequent first, in one run.

    Args:
        path: of the ONNX graph.
        providers: as `onnxruntime.InferenceSession` takes them.
        feeds: by input.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        settings = onnxruntime.SessionOptions()
        settings.enable_profiling = True
        settings.profile_file_prefix = f"{folder}/run"
        session = onnxruntime.InferenceSession(path, settings, providers=list(providers))
        session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [event["args"] for event in events if event["name"].endswith(KERNEL)]
    counts: dict[str, Counter[str]] = {}
    for node in nodes:
        provider = node["provider"].removesuffix(SUFFIX)
        counts.setdefault(provider, Counter())[node["op_name"]] += 1
    return {provider: dict(kinds.most_common()) for provider, kinds in counts.items()}


def placed(backend: str, case: Case) -> dict[str, Any]:
    """The nodes of a denoiser by who runs them, where that is ONNX Runtime with a GPU."""
    if backend != "onnxruntime-cuda" or case.int8_attention:
        return {}
    from ..engine.backends.onnxruntime_cuda import open_stream, providers

    bundle = Bundle.open(case.bundle)
    path = bundle.file(bundle.graph("denoiser").file)
    return {"nodes": placement(path, providers(open_stream()), case.feeds(bundle))}
