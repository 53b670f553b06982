"""The operator for attention in int8 as a GPU of an architecture gets it."""

from __future__ import annotations

import shutil

import pytest
from mutoscope.engine.backends.onnxruntime.int8_attention import int8_operators
from mutoscope.engine.backends.onnxruntime.native_operators import COMPILER
from mutoscope.kernels.attention_ops import machine_code

if shutil.which(COMPILER) is None:
    pytest.skip("there is no C++ compiler", allow_module_level=True)


@pytest.mark.parametrize("arch", ["sm_75", "sm_120"])
def test_the_machine_code_is_in_it(arch: str) -> None:
    pytest.importorskip("cuda.core", reason="the kernels extra is not installed")
    library, kernels = int8_operators(arch).read_bytes(), machine_code(arch)
    assert sorted(kernels) == ["int8_attention", "int8_keys"]
    for code in kernels.values():
        assert code.startswith(b"\x7fELF")
        assert library.find(code) % 16 == 0
