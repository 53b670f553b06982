"""The device layer on PyCUDA, with a strict fake in its place whose kernels run on this CPU."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from cpu_device import CpuStream
from fake_pycuda import FakeContext, FakePyCuda
from mutoscope.errors import MissingExtraError, MutoscopeError, UserError
from mutoscope.kernels import cuda_core, devices, memory, pycuda_device, pycuda_stream
from mutoscope.kernels.cuda_array import CudaArray
from mutoscope.kernels.guided_step import guided_step
from mutoscope.kernels.noise import standard_normal
from mutoscope.kernels.ops import Ops
from mutoscope.kernels.pycuda_device import PyCudaDevice, open_device
from mutoscope.kernels.pycuda_stream import PyCudaStream
from mutoscope.kernels.recording import Recording


@pytest.fixture
def fake(cpu_stream: CpuStream, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePyCuda]:
    """What is left open, or on the stack of any thread, fails the test."""
    fake = FakePyCuda(cpu_stream._library)
    for name, module in fake.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(pycuda_device, "compile_source", lambda text, name, arch: name.encode())
    for module in (memory, pycuda_device, pycuda_stream):
        monkeypatch.setattr(module, "call_driver", fake.call_driver)
    yield fake
    gc.collect()
    assert not any(fake.stacks.values())
    assert fake.mistakes == []
    assert fake.blocks == fake.graphs == fake.pinned == {}


@pytest.fixture
def context(fake: FakePyCuda) -> Iterator[FakeContext]:
    """What an appliance has made current before."""
    context = sys.modules["pycuda.driver"].Device(0).make_context()
    yield context
    fake.pop()


@pytest.fixture
def device(context: FakeContext) -> PyCudaDevice:
    return open_device()


@pytest.fixture
def stream(device: PyCudaDevice) -> Iterator[PyCudaStream]:
    with device.stream() as stream:
        yield stream


def test_the_caller_s_context_is_kept(
    fake: FakePyCuda, context: FakeContext, device: PyCudaDevice
) -> None:
    with device.stream() as stream:
        assert fake.streams[stream.handle].context == context.handle
    assert fake.stack == [context]
    assert not any(call.startswith("retain") for call in fake.calls)


def test_without_one_the_primary_context_is_taken(fake: FakePyCuda) -> None:
    device = open_device()
    with device.stream() as stream:
        assert np.asarray(stream.upload(np.float32([4]))) == 4
    assert fake.calls.count("retain 0") == 1
    assert fake.stack == []
    assert device.primary


def test_what_it_says_of_itself(device: PyCudaDevice) -> None:
    assert (device.index, device.name, device.arch, device.driver) == (0, "GPU 0", "sm_89", 13)
    assert (device.memory, device.memory_in_use()) == (8 << 30, 5 << 30)
    assert not device.primary


def test_a_context_of_another_gpu(fake: FakePyCuda) -> None:
    fake.devices = 2
    sys.modules["pycuda.driver"].Device(1).make_context()
    device = open_device()
    assert (device.index, device.name) == (1, "GPU 1")
    fake.pop()


def test_an_active_primary_context_is_not_taken_for_another(
    fake: FakePyCuda, device: PyCudaDevice
) -> None:
    fake.primary_active = True
    assert not device.primary
    assert fake.calls[-2:] == ["cuDevicePrimaryCtxRetain 0", "cuDevicePrimaryCtxRelease 0"]


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int64", "bool"])
@pytest.mark.parametrize("shape", [(3, 5), (0, 4), (1,), (2, 3, 1, 7)])
def test_what_goes_up_comes_down(stream: PyCudaStream, dtype: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).uniform(0, 200, shape).astype(dtype)
    array = stream.upload(values)
    assert (array.shape, array.dtype, array.nbytes) == (shape, dtype, values.nbytes)
    assert np.array_equal(stream.download(array), values)


def test_a_host_array_may_change_once_it_is_up(stream: PyCudaStream) -> None:
    values = np.arange(6, dtype=np.float32)[::-1]
    array = stream.upload(values)
    values[:] = 0
    assert np.array_equal(np.asarray(array), np.arange(6)[::-1])


def test_rows_lie_where_they_are(stream: PyCudaStream) -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    array = stream.upload(values)
    stream.copy(array.rows(1, 3), array.rows(2, 4))
    assert np.array_equal(np.asarray(array)[2:], values[1:3])
    with pytest.raises(MutoscopeError, match="of one shape and dtype"):
        stream.copy(array, array.rows(0, 2))


def test_what_is_cleared_is_zero_when_its_turn_comes(
    fake: FakePyCuda, stream: PyCudaStream
) -> None:
    values = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
    array, kept = stream.upload(values), stream.empty((4, 3), "float32")
    stream.copy(array, kept)
    stream.clear(array.rows(1, 3))
    stream.clear(stream.empty((0, 3), "float32"))
    assert np.array_equal(np.asarray(array), values * [[1], [0], [0], [1]])
    assert np.array_equal(np.asarray(kept), values)
    assert [call for call in fake.calls if call.startswith("memset")] == ["memset 24"]


def test_memory_goes_back_to_its_own_stream_alone(
    fake: FakePyCuda, device: PyCudaDevice, stream: PyCudaStream
) -> None:
    first = stream.empty((8,), "float32").pointer
    with device.stream() as other:
        assert other.empty((8,), "float32").pointer != first
    again = stream.empty((8,), "float32")
    assert again.pointer == first
    rows = again.rows(2, 4)
    del again
    assert stream.empty((8,), "float32").pointer != first
    assert rows.pointer == first + 8


def test_what_outlives_its_stream_is_freed(fake: FakePyCuda, device: PyCudaDevice) -> None:
    with device.stream() as stream:
        array = stream.empty((8,), "float32")
        stream.empty((9,), "float32")
    assert list(fake.blocks) == [array.pointer]
    stream.close()
    with pytest.raises(MutoscopeError, match="the stream is closed"):
        stream.upload(np.zeros(3, np.uint8))
    del array
    assert fake.blocks == {}


def test_a_stream_that_nobody_closes_is_given_back(fake: FakePyCuda) -> None:
    stream = open_device().stream()
    array = stream.empty((8,), "float32")
    del stream
    array.stream.synchronize()
    del array
    assert not fake.streams
    assert fake.blocks == {}


def test_any_thread_may_use_a_stream_and_drop_what_is_made(
    fake: FakePyCuda, stream: PyCudaStream
) -> None:
    def work() -> Any:
        output = stream.empty((64,), "float32")
        Ops(stream).standard_normal(3, output)
        stream.device.set_current()
        return np.asarray(output)

    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(work).result()
        kept = [stream.empty((3,), "float32")]
        thread.submit(kept.clear).result()
    assert found.tobytes() == standard_normal(3, (64,)).tobytes()
    assert f"cuCtxSetCurrent {stream.device._context.handle}" in fake.calls


def test_kernels_take_arguments_of_every_size(fake: FakePyCuda, stream: PyCudaStream) -> None:
    values = np.random.default_rng(0).normal(size=(5, 2, 3, 7, 5)).astype(np.float32)
    latents, one, other, *past = values
    weights = np.random.default_rng(1).normal(size=(2, 4))
    wanted = guided_step(weights, latents, one, other, 4.3, history=past)
    outputs = [stream.empty(latents.shape, "float32") for _ in weights]
    Ops(stream).guided_step(
        stream.upload(weights.astype(np.float32)), stream.upload(latents), stream.upload(one),
        outputs, unconditional=stream.upload(other), scale=4.3, history=[*map(stream.upload, past)],
    )  # fmt: skip
    for got, want in zip(outputs, wanted, strict=True):
        assert np.asarray(got).tobytes() == want.tobytes()
    noise = stream.empty((5, 7), "float32")
    Ops(stream).standard_normal(2**63 + 5, noise)
    assert np.asarray(noise).tobytes() == standard_normal(2**63 + 5, (5, 7)).tobytes()
    Ops(stream).standard_normal(1, noise)
    assert fake.calls.count("load noise") == 1


def test_events_order_streams_and_tell_the_time(device: PyCudaDevice, stream: PyCudaStream) -> None:
    with device.stream() as other:
        before = stream.record()
        array = stream.upload(np.arange(4))
        after = stream.record()
        other.wait(after)
        assert np.array_equal(other.download(array), np.arange(4))
        with pytest.raises(MutoscopeError, match=r"^cuEventElapsedTime failed: .*not ready"):
            stream.record().milliseconds_since(before)
        after.synchronize()
        assert after.milliseconds_since(before) == 1.5


def test_a_graph_runs_when_it_is_launched(fake: FakePyCuda, stream: PyCudaStream) -> None:
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")
    nothing = stream.upload(np.zeros(100, np.float32))
    output = stream.empty((100,), "float32")
    graph = stream.capture(lambda: Ops(stream).standard_normal(5, output))
    wanted = standard_normal(5, (100,))
    assert np.array_equal(stream.download(output), wanted)
    stream.copy(nothing, output)
    assert not stream.download(output).any()
    graph.launch()
    assert np.array_equal(stream.download(output), wanted)
    assert len(fake.graphs) == 1


def test_a_recording_is_a_function_of_arrays(stream: PyCudaStream) -> None:
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")

    def doubled(array: CudaArray) -> list[CudaArray]:
        twice = stream.empty((2, *array.shape), array.dtype)
        for row in range(2):
            stream.copy(array, twice.rows(row, row + 1).reshape(array.shape))
        return [twice]

    first, second = np.float32([1, 2, 3]), np.float32([4, 5, 6])
    recording = Recording(stream, doubled, [stream.upload(first)])
    (kept,) = recording.results()
    (made,) = recording([stream.upload(second)])
    assert np.array_equal(stream.download(kept), [first, first])
    assert np.array_equal(stream.download(made), [second, second])


def test_what_passes_through_the_host_is_not_recorded(stream: PyCudaStream) -> None:
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")
    values = np.float32([1])
    with pytest.raises(MutoscopeError, match="what passes through the host cannot be recorded"):
        stream.capture(lambda: stream.copy(stream.upload(values), stream.empty((1,), "float32")))
    assert np.array_equal(stream.download(stream.upload(values)), values)


def test_a_copy_to_the_host_can_be_waited_for_later(fake: FakePyCuda, stream: PyCudaStream) -> None:
    first, second = np.arange(6, dtype=np.uint8).reshape(2, 3), np.zeros((2, 3), np.uint8)
    begun = [stream.fetch(stream.upload(values)) for values in (first, second)]
    assert np.array_equal(begun[0](), first)
    assert np.array_equal(begun[1](), second)
    taken = len(fake.pinned)
    assert np.array_equal(stream.fetch(stream.upload(first))(), first)
    assert len(fake.pinned) == taken == 2
    assert stream.fetch(stream.empty((0, 3), "uint8"))().shape == (0, 3)


def test_memory_outside_of_the_pool(fake: FakePyCuda, stream: PyCudaStream) -> None:
    surface = stream.allocate((2, 3), "uint8")
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    stream.copy(stream.upload(values), surface)
    assert np.array_equal(stream.download(surface), values)
    place = surface.pointer
    assert place in fake.blocks
    del surface
    assert place not in fake.blocks


def test_a_failed_recording_leaves_the_stream_usable(
    fake: FakePyCuda, stream: PyCudaStream
) -> None:
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")

    tries: list[None] = []

    def fail() -> None:
        tries.append(None)
        if len(tries) == 2:
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stream.capture(fail)
    assert np.asarray(stream.upload(np.float32([4]))) == 4
    assert fake.graphs == {}


def test_others_wait_for_a_stream(
    fake: FakePyCuda, stream: PyCudaStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[tuple[int, int, int]] = []
    monkeypatch.setattr(
        pycuda_stream, "let_wait", lambda *streams: waited.append((*streams, len(fake.stack)))
    )
    with ThreadPoolExecutor(1) as thread:
        thread.submit(stream.lead, 1).result()
    assert waited == [(1, stream.handle, 1)]


def refusal(work: Callable[[], Any]) -> str:
    with pytest.raises(MutoscopeError) as caught:
        work()
    assert not isinstance(caught.value, UserError)
    return str(caught.value)


def test_too_much_memory_is_told(stream: PyCudaStream) -> None:
    assert refusal(lambda: stream.empty((1 << 30,), "float32")) == (
        "DeviceMemoryPool.allocate(4294967296 bytes) failed: memory_pool::allocate failed: "
        "out of memory - failed to free memory for allocation"
    )


def test_a_cubin_that_does_not_load_shows_the_log(
    stream: PyCudaStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = stream.empty((8,), "float32")
    monkeypatch.setattr(pycuda_device, "compile_source", lambda *_: b"broken")
    assert refusal(lambda: Ops(stream).standard_normal(3, output)) == (
        "module_from_buffer(noise) failed: cuModuleLoadDataEx failed: "
        "device kernel image is invalid - ptxas: not an ELF"
    )


def test_a_kernel_that_is_not_there_is_told(stream: PyCudaStream) -> None:
    assert refusal(lambda: stream.launch("noise", "nosie", (1, 1), [])) == (
        "get_function(nosie) failed: cuModuleGetFunction failed: named symbol not found"
    )


def test_a_copy_from_nowhere_is_told(fake: FakePyCuda, stream: PyCudaStream) -> None:
    array = stream.empty((4,), "float32")
    fake.blocks.clear()
    assert refusal(lambda: stream.download(array)) == ("cuMemcpyDtoHAsync failed: invalid argument")
    fake.blocks[array.pointer] = b"0" * 16


def test_without_pycuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(MissingExtraError) as caught:
        open_device()
    assert str(caught.value) == (
        "pycuda is not installed; install it with: pip install 'mutoscope[pycuda]'"
    )


def test_without_a_gpu(fake: FakePyCuda) -> None:
    fake.devices = 0
    with pytest.raises(UserError) as caught:
        open_device()
    assert str(caught.value) == (
        "no NVIDIA GPU 0 that CUDA can use; install NVIDIA's driver, or run on the CPU with "
        "--backend onnxruntime (cuInit failed: no CUDA-capable device is detected)"
    )


def test_a_process_that_has_imported_it_gets_it(device: PyCudaDevice) -> None:
    assert isinstance(devices.open_device(), PyCudaDevice)


def test_every_other_process_gets_cuda_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pycuda.driver", raising=False)
    monkeypatch.setattr(cuda_core, "open_device", lambda: "cuda-core's")
    assert devices.open_device() == "cuda-core's"  # type: ignore[comparison-overlap]
