"""The bounds that a quantized bundle is held to."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from mutoscope.cli.quantize import table
from mutoscope.engine.manifest import QualitySpec
from mutoscope.quantize.deviation import Deviation
from mutoscope.quantize.quality import misses

GOOD = QualitySpec(
    errors={"denoiser": 0.02, "text_encoder": 0.02},
    step_errors=(0.01, 0.02),
    latent_errors=(0.001, 0.004),
    psnr=25.0,
    ssim=0.97,
    adherence=0.88,
    source_adherence=0.90,
    clips=4,
)


def test_what_reaches_its_bounds_passes() -> None:
    assert list(misses(GOOD)) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"step_errors": (0.01, 0.0203, 0.0201)},
            "denoiser error 2.03% at step 2 of 3, at most 2% wanted",
        ),
        (
            {"errors": {"denoiser": 0.01, "text_encoder": 0.0203}},
            "text_encoder error 2.03%, at most 2% wanted",
        ),
        ({"psnr": 24.99}, "PSNR 24.99 dB, at least 25 wanted"),
        ({"adherence": 0.87}, "3.0 points of adherence lost, 2 allowed"),
    ],
)
def test_what_does_not_is_told(changes: dict[str, object], told: str) -> None:
    assert list(misses(msgspec.structs.replace(GOOD, **changes))) == [told]


def test_a_model_of_another_world_has_no_adherence_to_lose() -> None:
    other = msgspec.structs.replace(GOOD, adherence=None, source_adherence=None)
    assert list(misses(other)) == []
    assert "adherence" not in table(other)


def test_the_table_has_every_figure() -> None:
    assert table(msgspec.structs.replace(GOOD, missed=("the moon",))).splitlines() == [
        "denoiser error: 2.00%",
        "text_encoder error: 2.00%",
        "worst step: 2.00% (step 2 of 2), latents at the end: 0.40%",
        "frames of 4 clips: PSNR 25.00 dB, SSIM 0.9700",
        "adherence: 88.0%, the source's 90.0%",
        "MISSED: the moon",
    ]


def test_deviations_add_up_over_arrays() -> None:
    deviation = Deviation()
    assert deviation.relative == 0
    deviation.add(np.float32([3, 0]), np.float32([0, 0]))
    deviation.add(np.float32([[5]]), np.float32([[5]]))
    assert deviation.relative == 0.6
