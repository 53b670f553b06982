"""Guidance around a denoiser that answers in a known way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from mutoscope.engine.manifest import Manifest
from mutoscope.kernels.guidance_weights import Projected
from mutoscope.runtime.arithmetic import HostArithmetic
from mutoscope.runtime.conditioning import Conditioning
from mutoscope.runtime.experts import Expert
from mutoscope.runtime.guidance import GuidedDenoiser, fits_batched, working_memory


class Denoiser:
    """Predicts latents times timestep plus the mean of the embedding; keeps its batch sizes."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.batches.append(len(feeds["hidden_states"]))
        column = (-1, 1, 1, 1, 1)
        scaled = feeds["hidden_states"] * feeds["timestep"].reshape(column)
        return {"sample": scaled + feeds["encoder_hidden_states"].mean((1, 2)).reshape(column)}


def guided(
    *, batched: bool, negative: float | None = 1.0, scale: float = 4.0
) -> tuple[GuidedDenoiser[Any], Denoiser]:
    denoiser = Denoiser()
    expert = Expert(denoiser, scale)  # type: ignore[arg-type]
    prompt = np.full((1, 8, 6), 3, np.float32)
    other = None if negative is None else np.full((1, 8, 6), negative, np.float32)
    predict = GuidedDenoiser(lambda timestep: expert, HostArithmetic(), prompt, other, batched)
    return predict, denoiser


@pytest.mark.parametrize(("batched", "batches"), [(True, [2]), (False, [1, 1])])
def test_guided(batched: bool, batches: list[int]) -> None:
    predict, denoiser = guided(batched=batched)
    prediction = predict(np.ones((1, 4, 1, 2, 2), np.float32), np.float32(10))
    assert np.unique(prediction.conditional).tolist() == [13]
    assert np.unique(prediction.unconditional).tolist() == [11]
    assert prediction.conditional.shape == prediction.unconditional.shape == (1, 4, 1, 2, 2)
    assert prediction.scale == 4
    assert denoiser.batches == batches


@pytest.mark.parametrize("batched", [True, False])
def test_rescaled(batched: bool) -> None:
    predict, _ = guided(batched=batched)
    latents = np.ones((1, 4, 1, 2, 2), np.float32)
    assert predict(latents, np.float32(10)).rescale == 0
    assert replace(predict, rescale=0.7)(latents, np.float32(10)).rescale == 0.7
    assert predict(latents, np.float32(10)).variant is None
    variant = Projected(0.3)
    assert replace(predict, variant=variant)(latents, np.float32(10)).variant == variant


@pytest.mark.parametrize(
    "options", [{"negative": None}, {"scale": 1.0}, {"scale": 0.5}], ids=["none", "1", "less"]
)
def test_without_guidance(options: dict[str, Any]) -> None:
    predict, denoiser = guided(batched=True, **options)
    prediction = predict(np.ones((1, 4, 1, 2, 2), np.float32), np.float32(10))
    assert np.unique(prediction.conditional).tolist() == [13]
    assert prediction.unconditional is None
    assert denoiser.batches == [1]


@pytest.mark.parametrize(("batched", "rows"), [(True, 2), (False, 1)])
def test_what_is_given_has_no_time(batched: bool, rows: int) -> None:
    predict, _ = guided(batched=batched)
    predict.conditioning = Conditioning(by_frame=True, first=np.zeros((1, 4, 1, 2, 2), np.float32))
    seen: list[Any] = []

    def run(feeds: Mapping[str, Any]) -> dict[str, Any]:
        seen.append(feeds["timestep"])
        return {"sample": feeds["hidden_states"]}

    session: Any = SimpleNamespace(run=run)
    predict.expert = lambda timestep: Expert(session, 4.0)
    predict(np.ones((1, 4, 3, 2, 2), np.float32), np.float32(10))
    assert all(timestep.dtype == np.float32 for timestep in seen)
    assert [timestep.tolist() for timestep in seen] == [[[0, 10, 10]] * rows] * (2 // rows)


def test_batching_goes_by_memory(bundle_manifest: Manifest) -> None:
    shape = (1, 4, 2, 4, 4)
    # 2x2x2 tokens: 8 of hidden size 8, 16 of feed-forward, 2 heads of 8x8 scores held twice
    assert working_memory(bundle_manifest, shape) == 4 * (8 * (8 * 8 + 16) + 2 * 2 * 8 * 8)
    enough = 4 * 2 * working_memory(bundle_manifest, shape)
    assert fits_batched(bundle_manifest, shape, enough)
    assert not fits_batched(bundle_manifest, shape, enough - 4)


def test_long_text_counts(bundle_manifest: Manifest) -> None:
    text = msgspec.structs.replace(bundle_manifest.text, max_tokens=512)
    longer = msgspec.structs.replace(bundle_manifest, text=text)
    shape = (1, 4, 2, 4, 4)
    assert working_memory(longer, shape) > working_memory(bundle_manifest, shape)
