"""Clips of the embedded model on a real GPU, on every backend that can run there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope.bench.gpu_engines import Case, denoiser
from mutoscope.bench.quality.similarity import similarity
from mutoscope.engine.profiles import LatentSize
from mutoscope.errors import UserError
from mutoscope.kernels.cuda_array import CudaArray
from mutoscope.kernels.noise import standard_normal
from mutoscope.runtime import vae
from mutoscope.runtime.pipeline import Pipeline

pytestmark = pytest.mark.gpu

PROMPT = "a red circle moves left to right"
OPTIONS: dict[str, Any] = {"steps": 4, "seed": 5}
# TensorRT may compute fp32 in TF32, whose mantissa has 10 bits.
FLOOR_DB = {"onnxruntime-cuda": 50, "onnxruntime-rtx": 30, "tensorrt": 30, "tensorrt-rtx": 30}
MOST_ERROR = {
    "onnxruntime-cuda": 1e-4,
    "onnxruntime-rtx": 1e-2,
    "tensorrt": 1e-2,
    "tensorrt-rtx": 1e-2,
}


def test_noise_is_the_cpus_and_latents_stay_there(pipe: Pipeline) -> None:
    stream = pipe.stream(PROMPT, **OPTIONS)
    assert isinstance(stream.native_latents, CudaArray)
    latents = stream.latents
    assert latents.tobytes() == standard_normal(5, latents.shape).tobytes()
    step = next(stream)
    assert isinstance(stream.native_latents, CudaArray)
    assert not np.array_equal(step.latents, latents)
    assert step.preview().shape == (*latents.shape[2:], 3)


@pytest.mark.parametrize("scheduler", ["euler", "unipc"])
def test_a_clip_is_like_the_cpus(pipe: Pipeline, backend: str, scheduler: str) -> None:
    with mutoscope.load(preset="full") as plain:
        wanted = plain(PROMPT, **OPTIONS, scheduler=scheduler).frames
    found = pipe(PROMPT, **OPTIONS, scheduler=scheduler).frames
    assert similarity(found, wanted).psnr >= FLOOR_DB[backend]


def test_a_seed_is_a_clip(pipe: Pipeline) -> None:
    first, again = (list(pipe.stream(PROMPT, **OPTIONS))[-1].latents for _ in range(2))
    assert first.tobytes() == again.tobytes()


def test_steps_that_are_recorded_give_the_same_bits(
    pipe: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**OPTIONS, "steps": 8, "scheduler": "unipc"}
    steps = list(stream := pipe.stream(PROMPT, **options))
    if stream.record.not_recorded:
        pytest.skip(stream.record.not_recorded)
    assert stream.record.recorded_steps == [4, 5, 6, 7]
    monkeypatch.setattr(type(pipe.sessions("denoiser")), "recordable", False)
    plain = list(other := pipe.stream(PROMPT, **options))
    assert other.record.recorded_steps == []
    for step, wanted in zip(steps, plain, strict=True):
        assert step.latents.tobytes() == wanted.latents.tobytes()


def test_a_later_latent_frame_makes_no_array_but_its_frames(
    pipe: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream: Any = pipe.sessions.stream
    size = LatentSize.default(pipe.bundle.manifest)
    shape = (1, pipe.bundle.manifest.latents.channels, 1, size.height, size.width)
    latents = [stream.upload(standard_normal(seed, shape)) for seed in range(6)]
    counts, empty = [0], stream.empty
    monkeypatch.setattr(stream, "empty", lambda *a: counts.append(counts.pop() + 1) or empty(*a))
    made = [counts[0] for _ in vae.decode(pipe.sessions, latents)]
    assert np.diff(made)[1:].tolist() == [1] * 4


def test_another_thread_can_make_a_clip(pipe: Pipeline) -> None:
    here = pipe(PROMPT, **OPTIONS).frames
    with ThreadPoolExecutor(1) as thread:
        there = thread.submit(lambda: pipe(PROMPT, **OPTIONS).frames).result()
    np.testing.assert_array_equal(there, here)


def test_a_clip_goes_to_a_file(pipe: Pipeline, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV")
    clip = pipe(PROMPT, output=tmp_path / "clip.mp4", **OPTIONS)
    assert len(clip.frames) == pipe.bundle.manifest.defaults.frames


def test_tensors_go_in_and_out_where_they_lie(pipe: Pipeline) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    if not torch.cuda.is_available():
        pytest.skip("needs PyTorch with CUDA")
    noise = pipe.stream(PROMPT, **OPTIONS).latents
    wanted = pipe(PROMPT, **OPTIONS).frames
    values = torch.from_numpy(noise).cuda()
    given = torch.full_like(values, torch.nan)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(200_000_000)  # a tenth of a second, in which there is no noise yet
        given.copy_(values)
        stream = pipe.stream(PROMPT, latents=given, **OPTIONS)
    assert stream.native_latents.pointer == given.data_ptr()
    steps = list(stream)
    for step in (steps[0], steps[-1]):
        tensor = torch.from_dlpack(step.native_latents)
        assert tensor.data_ptr() == step.native_latents.pointer
        assert np.array_equal(tensor.cpu().numpy(), step.latents)
    assert np.array_equal(given.cpu().numpy(), noise)
    pieces = pipe.decode(torch.from_dlpack(stream.native_latents), native=True)
    # each is taken while its kernel may still run
    frames = torch.cat([torch.from_dlpack(piece) for piece in pieces])
    np.testing.assert_array_equal(frames.cpu().numpy(), wanted)


def test_a_tensor_with_gaps_is_refused(pipe: Pipeline) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    if not torch.cuda.is_available():
        pytest.skip("needs PyTorch with CUDA")
    shape = pipe.stream(PROMPT, **OPTIONS).latents.shape
    tensor = torch.zeros(*shape[:-1], 2 * shape[-1], device="cuda")[..., ::2]
    with pytest.raises(UserError, match="^latents cannot be taken from the GPU: .*without gaps"):
        pipe.stream(PROMPT, latents=tensor, **OPTIONS)


def test_a_denoiser_is_the_cpus(backend: str) -> None:
    with mutoscope.load(preset="full", backend="null") as pipe:
        bundle = pipe.bundle
    size = LatentSize.default(bundle.manifest)
    for batch in (1, 2):
        figures = denoiser(backend, Case(bundle.path, size, batch), beside_cpu=True)
        assert figures["finite"]
        assert figures["error"] <= MOST_ERROR[backend]
        assert figures["run_ms"] > 0
