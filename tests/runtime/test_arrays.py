"""Arrays of other libraries go into a request where they lie, or are refused in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from cpu_device import CpuStream
from mutoscope.engine import Bundle
from mutoscope.errors import UserError
from mutoscope.runtime.image import read_image
from mutoscope.runtime.pipeline import Pipeline
from mutoscope.runtime.request import Request, settle

SHAPE = (1, 4, 2, 4, 4)


@pytest.fixture
def pipe(bundle_folder: Path) -> Iterator[Pipeline]:
    with mutoscope.load(bundle_folder, backend="null") as opened:
        yield opened


def latents(seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


class OnGpu:
    """As PyCUDA's and CuPy's arrays tell of themselves; the memory is the host's."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.values = values

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        contiguous = self.values.flags.c_contiguous
        return {
            "version": 3,
            "shape": self.values.shape,
            "strides": None if contiguous else self.values.strides,
            "typestr": self.values.dtype.str,
            "data": (self.values.ctypes.data, False),
            "stream": None,
        }


class LikeTorch(OnGpu):
    """A CUDA tensor: it names its device, and will not become NumPy's."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, **options: Any) -> Any:
        raise AssertionError("taken by NumPy")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


def refusal(work: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        work()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def settled(bundle: Bundle, given: Any, stream: Any = None) -> Any:
    return settle(Request(prompt="any", latents=given), bundle.manifest, lambda: stream)


def test_a_tensor_of_the_cpu_goes_in_uncopied(pipe: Pipeline) -> None:
    torch = pytest.importorskip("torch", reason="needs the export extra")
    values = latents()
    tensor = torch.from_numpy(values)
    assert np.shares_memory(settled(pipe.bundle, tensor).latents, values)
    stream, plain = pipe.stream("any", latents=tensor), pipe.stream("any", latents=values)
    assert stream.latents.tobytes() == plain.latents.tobytes() == values.tobytes()
    given = (s.record.settings["latents_sha256"] for s in (stream, plain))
    assert len(set(given)) == 1
    np.testing.assert_array_equal(*(s.clip().frames for s in (stream, plain)))


def test_a_tensor_with_gaps_is_read_in_its_own_order(bundle: Bundle) -> None:
    torch = pytest.importorskip("torch", reason="needs the export extra")
    values = latents()
    turned = torch.from_numpy(np.ascontiguousarray(values.swapaxes(1, 3))).transpose(1, 3)
    assert not turned.is_contiguous()
    assert np.array_equal(settled(bundle, turned).latents, values)


def test_tensors_that_cannot_be_read_are_refused(bundle: Bundle) -> None:
    torch = pytest.importorskip("torch", reason="needs the export extra")
    tensor = torch.from_numpy(latents())
    assert refusal(lambda: settled(bundle, tensor.double())) == (
        f"latents must be float32 {list(SHAPE)}, not float64 {list(SHAPE)}"
    )
    assert refusal(lambda: settled(bundle, tensor[0])) == (
        f"latents must be float32 {list(SHAPE)}, not float32 {list(SHAPE[1:])}"
    )
    for given in (tensor.bfloat16(), tensor.clone().requires_grad_(), tensor.to("meta")):
        message = refusal(lambda given=given: settled(bundle, given))
        assert message.startswith("latents must be one array; this cannot be read: ")


def test_a_tensor_may_be_the_image() -> None:
    torch = pytest.importorskip("torch", reason="needs the export extra")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    read, plain = read_image(torch.from_numpy(pixels), 48, 32), read_image(pixels, 48, 32)
    assert np.array_equal(read.pixels, pixels)
    assert read.record() == plain.record()
    assert refusal(lambda: read_image(torch.from_numpy(pixels).permute(2, 0, 1), 48, 32)) == (
        "image must be uint8 (height, width, 3), not uint8 [3, 32, 48]"
    )


@pytest.mark.parametrize("kind", [OnGpu, LikeTorch])
def test_a_gpu_s_array_is_refused_where_the_cpu_computes(pipe: Pipeline, kind: type[OnGpu]) -> None:
    wanted = (
        "{} must lie in the host's memory, where this backend computes, not on a GPU; "
        "use .cpu() (PyTorch) or .get() (CuPy, PyCUDA) first"
    )
    given = kind(latents())
    assert refusal(lambda: pipe("any", latents=given)) == wanted.format("latents")
    assert refusal(lambda: list(pipe.decode(given))) == wanted.format("latents")
    picture = kind(np.zeros((32, 48, 3), np.uint8))
    assert refusal(lambda: read_image(picture, 48, 32)) == wanted.format("image")


@pytest.mark.parametrize("kind", [OnGpu, LikeTorch])
def test_a_gpu_s_array_stays_where_it_lies(
    bundle: Bundle, cpu_stream: CpuStream, kind: type[OnGpu]
) -> None:
    given = kind(latents())
    cpu_stream.calls.clear()
    settings = settled(bundle, given, cpu_stream)
    assert settings.latents.pointer == given.values.ctypes.data
    assert settings.latents.owner is given
    assert cpu_stream.calls == ["adopt"]
    assert settings.record() == settled(bundle, given.values).record() | {"prompt": "any"}


def test_what_a_gpu_holds_is_checked_too(bundle: Bundle, cpu_stream: CpuStream) -> None:
    def message(values: Any) -> str:
        return refusal(lambda: settled(bundle, OnGpu(values), cpu_stream))

    assert message(latents().astype(np.float16)).endswith(f"not float16 {list(SHAPE)}")
    assert message(latents()[:, :3]).endswith(f"not float32 {[1, 3, *SHAPE[2:]]}")
    assert message(np.full(SHAPE, np.inf, np.float32)) == "latents hold NaN or infinite values"
    assert message(latents()[..., ::-1]) == (
        "latents cannot be taken from the GPU: an array in C order without gaps is needed"
    )


def test_an_image_on_a_gpu_is_brought_down(cpu_stream: CpuStream) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    read = read_image(OnGpu(pixels), 48, 32, lambda: cpu_stream)
    assert np.array_equal(read.pixels, pixels)
    assert read.record() == read_image(pixels, 48, 32).record()
