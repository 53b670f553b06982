"""Compiling kernels without a GPU, and reading what they need from their cubins."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from mutoscope.cache import cache_folder
from mutoscope.errors import MutoscopeError, UserError
from mutoscope.kernels import __main__ as command
from mutoscope.kernels import compiler
from mutoscope.kernels.cubin import Resources, read_resources

ARCHS = ["sm_75", "sm_90", "sm_120"]
REPORT = re.compile(r"Compiling entry function '(\w+)'.*?Used (\d+) registers([^\n]*)", re.DOTALL)

# Kept live across a barrier, 96 values do not fit into the 64 registers that 1024 threads have.
SPILLS = """
extern "C" __global__ void __launch_bounds__(1024) spills(float* a, int n) {
    float v[96];
#pragma unroll
    for (int i = 0; i < 96; ++i) v[i] = a[i * n + threadIdx.x];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 96; ++i) a[i * n + threadIdx.x] = v[(i * 7) % 96] + v[i] * v[(i + 1) % 96];
}
extern "C" __global__ void shares(float* a) {
    __shared__ float s[256];
    s[threadIdx.x] = a[threadIdx.x];
    __syncthreads();
    a[threadIdx.x] = s[255 - threadIdx.x];
}
"""


def assembler_report(text: str, arch: str) -> dict[str, tuple[int, int, int]]:
    """Registers, stack and shared memory as the assembler itself tells them."""
    from cuda.core import Program, ProgramOptions

    log = io.StringIO()
    options = ProgramOptions(arch=arch, std="c++17", fma=False, ptxas_options=["-v"])
    Program(text, "c++", options).compile("cubin", logs=log)
    found = {}
    for name, registers, rest in REPORT.findall(log.getvalue()):
        stack, shared = (
            re.search(rf"(\d+) bytes {what}", rest) for what in ("cumulative stack", "smem")
        )
        found[name] = (
            int(registers),
            int(stack[1]) if stack else 0,
            int(shared[1]) if shared else 0,
        )
    return found


@pytest.fixture(autouse=True)
def _needs_nvrtc() -> None:
    pytest.importorskip("cuda.core", reason="needs cuda-core, cuda-bindings and nvidia-cuda-nvrtc")


@pytest.mark.parametrize("arch", ARCHS)
def test_resources_are_those_of_the_assembler_s_report(arch: str) -> None:
    for text in (SPILLS, compiler.read_source("distance"), compiler.read_source("noise")):
        found = read_resources(compiler.compile_source(text, "some", arch))
        # From sm_90 on, the system keeps 1024 bytes of what a block shares.
        kept = 1024 if arch != "sm_75" else 0
        told = {
            name: (need.registers, need.stack, need.shared and need.shared - kept)
            for name, need in found.items()
        }
        assert told == assembler_report(text, arch)


@pytest.mark.parametrize("fused", [False, True])
def test_nothing_is_fused(fused: bool) -> None:
    from cuda.core import Program, ProgramOptions

    text = 'extern "C" __global__ void fused(float* a) { a[0] = a[1] * a[2] + a[3]; }'
    options = ProgramOptions(name="fused.cu", arch="sm_89", std="c++17", fma=fused)
    code = Program(text, "c++", options).compile("cubin").code
    assert (code == compiler.compile_source(text, "fused", "sm_89")) is not fused


def test_a_spill_is_seen() -> None:
    found = read_resources(compiler.compile_source(SPILLS, "spills", "sm_89"))
    assert found["spills"].stack > 0
    assert found["shares"] == Resources(found["shares"].registers, shared=1024, stack=0)


def test_every_kernel_compiles_and_none_spills() -> None:
    done = CliRunner().invoke(command.main, ["compile", "--arch", "sm_89"])
    assert done.exit_code == 0, done.output
    assert re.search(r"^\| `noise_float32` \| \d+ / 0 \|$", done.output, re.MULTILINE)
    assert "spilled" not in done.output


def test_a_spill_fails_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "spills.cu").write_text(SPILLS)
    monkeypatch.setattr(compiler, "FOLDER", tmp_path)
    monkeypatch.setattr(compiler, "SOURCES", ("spills",))
    monkeypatch.setattr(command, "SOURCES", ("spills",))
    done = CliRunner().invoke(command.main, ["compile", "--arch", "sm_89"])
    assert done.exit_code == 1
    assert "error: registers spill to memory: spills\n" in done.output


def test_an_unknown_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(command.main, ["compile", "--arch", "sm_89,sm_70"])
    assert done.exit_code == 2
    assert done.output.startswith("error: unknown architecture 'sm_70'; did you mean 'sm_")


def test_an_unknown_source() -> None:
    with pytest.raises(UserError, match="unknown kernel source 'nois'; did you mean 'noise'"):
        compiler.read_source("nois")


def test_an_error_shows_the_compiler_s_log() -> None:
    with pytest.raises(MutoscopeError) as caught:
        compiler.compile_source("__global__ void broken() { undeclared = 1; }", "broken", "sm_89")
    assert str(caught.value).startswith("nvrtcCompileProgram(broken.cu, sm_89) failed: 6: NVRTC_")
    assert 'identifier "undeclared" is undefined' in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_cubin_is_kept_and_a_change_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def kept() -> int:
        return sum(path.is_file() for path in cache_folder("kernels").rglob("*"))

    text = 'extern "C" __global__ void one(int* a) { *a = 1; }'
    first = compiler.compile_source(text, "one", "sm_89")
    assert (kept(), compiler.compile_source(text, "one", "sm_89") == first) == (1, True)
    compiler.compile_source(text.replace("= 1", "= 2"), "one", "sm_89")
    compiler.compile_source(text, "one", "sm_90")
    assert kept() == 3


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MUTOSCOPE_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="no place for compiled kernels; set MUTOSCOPE_CACHE"):
        compiler.compile_source("", "empty", "sm_89")


def test_something_else_than_a_cubin() -> None:
    with pytest.raises(MutoscopeError, match="not a cubin"):
        read_resources(b"no ELF")


def test_sources_are_whole() -> None:
    text = compiler.read_source("distance")
    assert text.count('#line 1 "elements.cuh"') == text.count('#line 1 "sums.cuh"') == 1
    assert "#include" not in text
    assert "pragma once" not in text
