"""Rescaled guidance against diffusers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip(
    "diffusers", reason="parity tests need the export extra: pip install -e '.[export]'"
)

import torch
from diffusers.pipelines.ltx.pipeline_ltx import rescale_noise_cfg
from mutoscope.kernels.guided_step import guided_step
from mutoscope.kernels.latents import guide

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("rescale", [0.3, 1.0])
def test_the_velocity_is_diffusers_own(rescale: float) -> None:
    generator = np.random.default_rng(4)
    shape = (2, 4, 3, 7, 5)
    latents, conditional, unconditional = generator.normal(size=(3, *shape)).astype(np.float32)
    conditional *= np.float32(1.7)
    (ours,) = guided_step(
        np.array([[0.0, 1.0]]), latents, conditional, unconditional, 5.0, rescale=rescale
    )
    guided = torch.from_numpy(guide(conditional, unconditional, 5.0))
    theirs = rescale_noise_cfg(guided, torch.from_numpy(conditional), rescale)
    # Two standard deviations of 420 float32 values, added up in another order.
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-6, atol=0)
