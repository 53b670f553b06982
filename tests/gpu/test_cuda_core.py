"""The device layer on a real GPU. Collected by `pytest --gpu` alone; see CONTRIBUTING.md.

The kernels themselves are compared with their statements in tests/kernels, on the GPU too then.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from mutoscope.errors import MutoscopeError
from mutoscope.kernels.cuda_array import CudaArray
from mutoscope.kernels.cuda_core import CudaDevice, open_device
from mutoscope.kernels.cuda_stream import CudaStream
from mutoscope.kernels.noise import standard_normal
from mutoscope.kernels.ops import Ops
from mutoscope.kernels.recording import Recording
from mutoscope.kernels.surfaces import Surfaces

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def device() -> CudaDevice:
    return open_device()


@pytest.fixture
def stream(device: CudaDevice) -> Iterator[CudaStream]:
    with device.stream() as stream:
        yield stream


def test_it_has_a_name_an_architecture_and_a_driver(device: CudaDevice) -> None:
    assert device.name
    assert device.arch.startswith("sm_")
    assert device.driver >= 12


def test_the_pool_keeps_what_is_freed(device: CudaDevice) -> None:
    assert device.native.memory_resource.attributes.release_threshold >= 1 << 40


def test_memory_that_is_taken_counts(device: CudaDevice, stream: CudaStream) -> None:
    before = device.memory_in_use()
    array = stream.empty((1 << 30,), "uint8")
    stream.synchronize()
    assert device.memory_in_use() - before >= array.nbytes // 2


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "uint16"])
@pytest.mark.parametrize("shape", [(3, 5), (0, 4), (1,), (2, 3, 1, 7, 5)])
def test_what_goes_up_comes_down(stream: CudaStream, dtype: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).uniform(0, 200, shape).astype(dtype)
    array = stream.upload(values)
    assert (array.shape, array.dtype, array.nbytes) == (shape, dtype, values.nbytes)
    assert np.array_equal(stream.download(array), values)


def test_rows_lie_where_they_are(stream: CudaStream) -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    array = stream.upload(values)
    rows = array.rows(1, 3)
    assert rows.pointer == array.pointer + 4 * 6
    assert np.array_equal(np.asarray(rows), values[1:3])
    stream.copy(rows, array.rows(2, 4))
    assert np.array_equal(np.asarray(array)[2:], values[1:3])


def test_any_thread_may_use_a_stream(stream: CudaStream) -> None:
    values = np.arange(6, dtype=np.int64)

    def work() -> bool:
        output = stream.empty((64,), "float32")
        Ops(stream).standard_normal(3, output)
        return np.array_equal(np.asarray(stream.upload(values)), values)

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(work).result()


def test_copies_on_the_device(stream: CudaStream) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    source, target = stream.upload(values), stream.empty((3, 4), "float32")
    stream.copy(source, target)
    assert np.array_equal(stream.download(target), values)
    with pytest.raises(MutoscopeError, match="of one shape and dtype"):
        stream.copy(source, stream.empty((4, 3), "float32"))


def test_what_is_cleared_is_zero(stream: CudaStream) -> None:
    values = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
    array = stream.upload(values)
    stream.clear(array.rows(1, 3))
    stream.clear(stream.empty((0, 3), "float32"))
    assert np.array_equal(stream.download(array), values * [[1], [0], [0], [1]])


def test_a_copy_waits_for_itself_alone(device: CudaDevice, stream: CudaStream) -> None:
    with device.stream() as aside:
        outputs = [stream.empty((1 << 20,), "float32") for _ in range(3)]
        fetches = []
        for seed, output in enumerate(outputs):
            Ops(stream).standard_normal(seed, output)
            aside.wait(stream.record())
            fetches.append(aside.fetch(output))
        for seed, fetch in enumerate(fetches):
            assert fetch().tobytes() == standard_normal(seed, (1 << 20,)).tobytes()


def test_memory_outside_of_the_pool_goes_back(device: CudaDevice, stream: CudaStream) -> None:
    stream.synchronize()
    before = device.memory_in_use()
    array = stream.allocate((1 << 28,), "uint8")
    assert device.memory_in_use() - before >= array.nbytes
    del array
    gc.collect()
    assert device.memory_in_use() - before < 1 << 28


def test_surfaces_are_taken_again_when_nobody_reads_them(stream: CudaStream) -> None:
    surfaces = Surfaces(stream)
    first = surfaces.take((6, 64), "uint8")
    place, plane = first.pointer, first.rows(0, 4).__dlpack__()
    del first
    assert surfaces.take((6, 64), "uint8").pointer != place
    del plane
    gc.collect()
    assert place in {surfaces.take((6, 64), "uint8").pointer for _ in range(2)}


def test_arrays_speak_both_protocols(stream: CudaStream) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    ours = stream.upload(values)
    stream.synchronize()
    interface = ours.__cuda_array_interface__
    assert (interface["shape"], interface["typestr"]) == ((2, 3), "<f4")
    assert ours.__dlpack_device__() == (2, 0)
    again = stream.adopt(ours)
    assert (again.pointer, again.shape, again.dtype) == (ours.pointer, (2, 3), "float32")
    assert np.array_equal(stream.download(again), values)


class Foreign:
    """An array of another library, which speaks `__cuda_array_interface__` alone."""

    def __init__(self, interface: dict[str, object]) -> None:
        self.__cuda_array_interface__ = interface


def test_an_array_with_gaps_is_refused(stream: CudaStream) -> None:
    ours = stream.upload(np.zeros((4, 6), np.float32))
    stream.synchronize()
    interface = {**ours.__cuda_array_interface__, "shape": (4, 3), "strides": (24, 8)}
    with pytest.raises(MutoscopeError, match="without gaps"):
        stream.adopt(Foreign(interface))


def test_a_host_array_is_refused(stream: CudaStream) -> None:
    with pytest.raises(MutoscopeError, match="an array on the device is needed"):
        stream.adopt(np.zeros(3, np.float32))


def test_events_order_streams_and_tell_the_time(device: CudaDevice, stream: CudaStream) -> None:
    with device.stream() as other:
        output = stream.empty((1 << 20,), "float32")
        before = stream.record()
        Ops(stream).standard_normal(3, output)
        after = stream.record()
        other.wait(after)
        values = other.download(output)
        after.synchronize()
        assert after.milliseconds_since(before) > 0
    assert values.tobytes() == standard_normal(3, (1 << 20,)).tobytes()


def test_a_graph_runs_when_it_is_launched(stream: CudaStream) -> None:
    output = stream.upload(np.zeros(1000, np.float32))
    ops = Ops(stream)

    def work() -> None:
        noise = stream.empty((1000,), "float32")
        ops.standard_normal(5, noise)
        stream.copy(noise, output)

    graph = stream.capture(work)
    wanted = standard_normal(5, (1000,)).tobytes()
    assert stream.download(output).tobytes() == wanted  # it has run once
    stream.copy(stream.upload(np.zeros(1000, np.float32)), output)
    assert not stream.download(output).any()
    graph.launch()
    assert stream.download(output).tobytes() == wanted


def test_what_passes_through_the_host_is_not_recorded(stream: CudaStream) -> None:
    with pytest.raises(MutoscopeError, match="through the host cannot be recorded"):
        stream.capture(lambda: stream.upload(np.zeros(4, np.float32)) and None)
    assert stream.download(stream.upload(np.float32([4]))) == 4


def test_a_recorded_function_gives_the_same_bits(stream: CudaStream) -> None:
    ops = Ops(stream)

    def double(values: CudaArray, coefficients: CudaArray) -> list[CudaArray]:
        output = stream.empty(values.shape, values.dtype)
        ops.guided_step(coefficients, values, values, [output])
        return [output]

    random = np.random.default_rng(0)
    steps = [random.normal(size=(2, 3, 999)).astype(np.float32) for _ in range(4)]
    weights = [random.normal(size=(1, 2)).astype(np.float32) for _ in range(4)]
    given = [[stream.upload(v), stream.upload(w)] for v, w in zip(steps, weights, strict=True)]
    wanted = [stream.download(double(*arrays)[0]).tobytes() for arrays in given]
    recording = Recording(stream, double, given[0])
    got = [recording.results(), *(recording(arrays) for arrays in given[1:])]
    assert [stream.download(result).tobytes() for (result,) in got] == wanted


def test_a_failed_recording_leaves_the_stream_usable(stream: CudaStream) -> None:
    def fail() -> None:
        raise ValueError("stop")

    with contextlib.suppress(MutoscopeError), pytest.raises(ValueError, match="stop"):
        stream.capture(fail)
    assert stream.download(stream.upload(np.float32([4]))) == 4


def test_too_much_memory_is_one_clear_error(stream: CudaStream) -> None:
    with pytest.raises(
        MutoscopeError, match=r"cuMemAllocFromPoolAsync\(.* bytes\) failed: .*MEMORY"
    ):
        stream.empty((1 << 42,), "float32")
