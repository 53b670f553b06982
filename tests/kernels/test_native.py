"""What is said where CUDA is missing or fails."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from mutoscope.errors import MissingExtraError, MutoscopeError, UserError
from mutoscope.kernels.native import import_cuda, native_errors


def test_without_cuda_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(MissingExtraError) as caught:
        import_cuda("core")
    assert str(caught.value) == (
        "cuda-core is not installed; install it with: pip install 'mutoscope[kernels]'"
    )


# In a process of its own that sees no GPU, so that it says the same where there is one.
NO_GPU = """
from mutoscope.errors import UserError
from mutoscope.kernels.cuda_core import open_device
try:
    open_device()
except UserError as error:
    print(error)
"""


def test_without_a_gpu() -> None:
    pytest.importorskip("cuda.core", reason="needs cuda-core and cuda-bindings")
    done = subprocess.run(
        [sys.executable, "-c", NO_GPU], capture_output=True, text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    (line,) = done.stdout.splitlines()
    assert line.startswith(
        "no NVIDIA GPU 0 that CUDA can use; install NVIDIA's driver, or run on the CPU "
        "with --backend onnxruntime ("
    )


class StatusError(Exception):
    __module__ = "cuda.core._utils"


def test_a_failure_is_told_with_the_call_s_name() -> None:
    with pytest.raises(MutoscopeError) as caught, native_errors("cuLaunchKernelEx(noise)"):
        raise StatusError("CUDA_ERROR_INVALID_VALUE: log\n\0")
    assert str(caught.value) == "cuLaunchKernelEx(noise) failed: CUDA_ERROR_INVALID_VALUE: log"
    assert not isinstance(caught.value, UserError)


@pytest.mark.parametrize("error", [KeyError("ours"), UserError("ours")])
def test_other_failures_pass(error: Exception) -> None:
    with pytest.raises(type(error), match="ours"), native_errors("cuInit"):
        raise error


def test_nvml_has_what_the_bench_asks_of_it() -> None:
    pytest.importorskip(
        "cuda.bindings", reason="needs cuda-core, cuda-bindings and nvidia-cuda-nvrtc"
    )
    nvml = import_cuda("bindings.nvml")
    for name in (
        "NvmlError",
        "init_v2",
        "device_get_count_v2",
        "device_get_handle_by_index_v2",
        "device_get_total_energy_consumption",
    ):
        assert hasattr(nvml, name)
