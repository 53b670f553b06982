"""What keeps a part of the GPU suite from running, and what it wants before it begins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ASKED = """
from types import SimpleNamespace
from mutoscope.bench.gpu_setting import needs_backend
from mutoscope.engine.backends import tensorrt
from mutoscope.engine.backends.tensorrt.parser_library import find_library
card = SimpleNamespace(name="a card", arch="sm_89", stream=lambda: SimpleNamespace(device=card))
tensorrt.open_device = lambda: card
needs_backend("tensorrt-rtx", int8_attention=True)
find_library()
"""


def test_the_parser_s_library_is_found_before_the_package_is_imported(tmp_path: Path) -> None:
    """Without it no engine that has the plugin can be built; in a process that has neither."""
    pytest.importorskip("tensorrt_rtx", reason="needs the rtx extra")
    environment = {**os.environ, "MUTOSCOPE_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", ASKED], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
