"""The device layer on PyCUDA itself. Each test is a process: who imports PyCUDA works in it.

PyCUDA may say nothing on stderr: it warns there of what it could not clean up, before it aborts.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable

import pytest
from runnable import runnable

pytestmark = pytest.mark.gpu

CONTEXTS = ["pycuda.autoinit", "pycuda.autoprimaryctx"]
PRELUDE = """
import numpy as np
import pycuda.driver as cuda
from mutoscope.errors import MutoscopeError, UserError
from mutoscope.kernels.devices import open_device
from mutoscope.kernels.noise import standard_normal
from mutoscope.kernels.ops import Ops
from mutoscope.kernels.pycuda_device import PyCudaDevice
"""
OPEN = """
mine = cuda.Context.get_current()
device = open_device()
assert isinstance(device, PyCudaDevice)
stream = device.stream()
"""
CLIP = """
import mutoscope, pycuda.gpuarray
options = {"steps": 4, "seed": 5}
with mutoscope.load(preset="full", backend=BACKEND) as pipe:
    plain = pipe.stream("a red circle moves left to right", **options)
    noise = pycuda.gpuarray.to_gpu(plain.latents)
    list(plain)
    stream = pipe.stream("a red circle moves left to right", latents=noise, **options)
    assert stream.native_latents.pointer == noise.ptr
    *_, last = stream
    assert last.latents.tobytes() == plain.latents.tobytes()
    ours = pycuda.gpuarray.empty(last.latents.shape, np.float32)
    cuda.memcpy_dtod(ours.ptr, last.native_latents.pointer, ours.nbytes)
    assert ours.get().tobytes() == last.latents.tobytes()
    assert np.array_equal(stream.clip().frames, plain.clip().frames)
assert cuda.Context.get_current() is not None
"""


@pytest.fixture(autouse=True)
def _needs_pycuda() -> None:
    if importlib.util.find_spec("pycuda") is None:
        pytest.skip("needs the pycuda extra")


@pytest.fixture
def run() -> Callable[[str], None]:
    def run(program: str) -> None:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "PyCUDA" not in done.stderr
        assert "cleaned up" not in done.stderr

    return run


@pytest.fixture(params=[*CONTEXTS, None])
def opened(request: pytest.FixtureRequest) -> str:
    imported = f"import {request.param}\n" if request.param else ""
    return imported + PRELUDE + OPEN


def test_kernels_run_in_the_caller_s_context(run: Callable[[str], None], opened: str) -> None:
    run(f"""{opened}
assert device.arch.startswith("sm_") and device.driver >= 12
with stream:
    output = stream.empty((1000,), "float32")
    Ops(stream).standard_normal(5, output)
    assert np.asarray(output).tobytes() == standard_normal(5, (1000,)).tobytes()
    values = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    array = stream.upload(values)
    stream.copy(array.rows(1, 3), array.rows(2, 4))
    assert np.array_equal(np.asarray(array)[2:], values[1:3])
now = cuda.Context.get_current()
assert now == mine and (now is None) == (mine is None)
""")


def test_any_thread_may_use_it_and_drop_what_is_made(
    run: Callable[[str], None], opened: str
) -> None:
    run(f"""{opened}
from concurrent.futures import ThreadPoolExecutor
def work():
    output = stream.empty((64,), "float32")
    Ops(stream).standard_normal(3, output)
    device.set_current()
    return np.asarray(output)
with ThreadPoolExecutor(1) as thread:
    assert thread.submit(work).result().tobytes() == standard_normal(3, (64,)).tobytes()
    kept = [stream.empty((3,), "float32")]
    thread.submit(kept.clear).result()
""")


def test_memory_goes_back(run: Callable[[str], None], opened: str) -> None:
    run(f"""{opened}
before = device.memory_in_use()
first = stream.empty((1 << 30,), "uint8").pointer
again = stream.empty((1 << 30,), "uint8")
assert again.pointer == first
assert device.memory_in_use() - before >= 1 << 29
stream.close()
del again
assert device.memory_in_use() - before < 1 << 29
""")


def test_pycuda_s_own_arrays_go_in_and_out(run: Callable[[str], None]) -> None:
    run(f"""import pycuda.autoinit
{PRELUDE}{OPEN}
import pycuda.gpuarray
with stream:
    theirs = pycuda.gpuarray.zeros((3, 5), np.float32)
    for _ in range(1000):
        theirs += 1  # on the default stream, and not waited for
    ours = stream.adopt(theirs)
    assert ours.pointer == theirs.ptr
    assert (stream.download(ours) == 1000).all()
    assert ours.__cuda_array_interface__["data"][0] == theirs.ptr
    assert ours.__dlpack_device__() == (2, 0)
""")


def test_a_graph_runs_when_it_is_launched(run: Callable[[str], None], opened: str) -> None:
    run(f"""{opened}
with stream:
    nothing = stream.upload(np.zeros(1000, np.float32))
    output, ops = stream.empty((1000,), "float32"), Ops(stream)
    wanted = standard_normal(5, (1000,)).tobytes()
    graph = stream.capture(lambda: ops.standard_normal(5, output))
    assert stream.download(output).tobytes() == wanted  # it ran once, to be recorded
    stream.copy(nothing, output)
    assert not stream.download(output).any()
    graph.launch()
    assert stream.download(output).tobytes() == wanted
    del graph
""")


def test_events_order_streams_and_tell_the_time(run: Callable[[str], None], opened: str) -> None:
    run(f"""{opened}
with stream, device.stream() as other:
    output = stream.empty((1 << 20,), "float32")
    before = stream.record()
    Ops(stream).standard_normal(3, output)
    after = stream.record()
    other.wait(after)
    values = other.download(output)
    after.synchronize()
    assert after.milliseconds_since(before) > 0
assert values.tobytes() == standard_normal(3, (1 << 20,)).tobytes()
""")


def test_failures_are_told_with_the_call_s_name(run: Callable[[str], None], opened: str) -> None:
    run(f"""{opened}
with stream:
    try:
        stream.empty((1 << 42,), "float32")
    except MutoscopeError as error:
        assert "DeviceMemoryPool.allocate(" in str(error) and "out of memory" in str(error)
    else:
        raise AssertionError
    try:
        stream.launch("noise", "no_such_kernel", (1, 1), [])
    except MutoscopeError as error:
        assert str(error).startswith("get_function(no_such_kernel) failed: cuModuleGetFunction")
    else:
        raise AssertionError
""")


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("backend", ["onnxruntime-cuda", "tensorrt", "tensorrt-rtx"])
def test_a_clip_of_pycuda_s_noise(run: Callable[[str], None], context: str, backend: str) -> None:
    runnable(backend)
    program = f"import {context}\n{PRELUDE}\nBACKEND = {backend!r}\n"
    if (backend, context) != ("onnxruntime-cuda", "pycuda.autoinit"):
        run(program + CLIP)
        return
    run(f"""{program}
import mutoscope
try:
    with mutoscope.load(preset="full", backend=BACKEND) as pipe:
        pipe("a red circle", steps=1)
except UserError as error:
    assert "primary context alone" in str(error)
else:
    raise AssertionError
""")
