"""Graphs in the form that a GPU takes, opened on the CPU to compare with."""

from __future__ import annotations

import pytest
from mutoscope.engine.backends import onnxruntime_cuda
from mutoscope.engine.backends.onnxruntime import open_changed


def open_on_the_cpu(monkeypatch: pytest.MonkeyPatch, *, fused: bool = True) -> None:
    """Let the backend `onnxruntime` open graphs as those for GPUs do."""
    monkeypatch.setattr(
        "mutoscope.engine.backends.onnxruntime.open_session",
        lambda bundle, name, options: open_changed(
            bundle,
            name,
            options,
            bundle.graph(name),
            onnxruntime_cuda.content_for_gpu(bundle, name, options, fused=fused),
        ),
    )
