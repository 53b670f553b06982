"""CFG-Zero* and APG against diffusers' guiders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

pytest.importorskip(
    "diffusers", reason="parity tests need the export extra: pip install -e '.[export]'"
)

import diffusers
import torch
from diffusers.guiders import AdaptiveProjectedGuidance, ClassifierFreeZeroStarGuidance
from mutoscope.kernels.guidance_weights import Projected, Variant, ZeroStar
from mutoscope.kernels.guided_step import guided_step
from mutoscope.kernels.noise import standard_normal
from mutoscope.runtime.arithmetic import HostArithmetic
from mutoscope.runtime.conditioning import Conditioning
from mutoscope.runtime.denoise import Steps, ZeroInit, denoise
from mutoscope.runtime.experts import Expert
from mutoscope.runtime.guidance import GuidedDenoiser
from mutoscope.runtime.schedulers import get_scheduler

pytestmark = pytest.mark.parity

SCALE = 5.0
SHAPES = [(2, 4, 3, 7, 5), (2, 16, 1, 3, 11), (1, 1, 1, 1, 1)]
BOUND = 1e-6
"""Of the largest value, times the scale: sums of a few hundred values in another order, and two
products that are added where diffusers subtracts first and multiplies then."""


def predictions(shape: tuple[int, ...]) -> tuple[Any, Any]:
    """As alike as those of a denoiser, and of different lengths."""
    generator = np.random.default_rng(4)
    conditional, apart = generator.normal(size=(2, *shape)).astype(np.float32)
    return np.float32(1.7) * conditional, conditional + np.float32(0.4) * apart


def projected(eta: float, threshold: float, **options: Any) -> Any:
    return AdaptiveProjectedGuidance(
        SCALE, adaptive_projected_guidance_rescale=threshold, eta=eta, **options
    )


def theirs(guider: Any, conditional: Any, unconditional: Any) -> Any:
    guider.set_state(1, 10, torch.tensor(900.0))
    pair = map(torch.from_numpy, (conditional, unconditional))
    return guider.forward(*pair).pred.numpy()


def ours(variant: Variant, conditional: Any, unconditional: Any, rescale: float = 0.0) -> Any:
    velocity = np.array([[0.0, 1.0]])
    (found,) = guided_step(
        velocity, conditional, conditional, unconditional, SCALE, rescale, variant=variant
    )
    return found


def assert_same(got: Any, wanted: Any, size: float) -> None:
    np.testing.assert_allclose(got, wanted, rtol=0, atol=BOUND * SCALE * size)


CASES = [
    (ZeroStar(), lambda **options: ClassifierFreeZeroStarGuidance(SCALE, **options)),
    *(
        (
            Projected(eta, threshold),
            lambda e=eta, t=threshold, **options: projected(e, t, **options),
        )
        for eta in (0.0, 0.3, 1.0)
        for threshold in (0.0, 2.5, 15.0)
    ),
]


@pytest.mark.parametrize(("variant", "guider"), CASES, ids=[str(variant) for variant, _ in CASES])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_velocity_is_diffusers_own(variant: Variant, guider: Any, shape: Any) -> None:
    pair = predictions(shape)
    wanted = theirs(guider(), *pair)
    assert_same(ours(variant, *pair), wanted, np.abs(pair).max())


@pytest.mark.parametrize(("variant", "guider"), CASES, ids=[str(variant) for variant, _ in CASES])
def test_and_so_is_the_rescaled_one(variant: Variant, guider: Any) -> None:
    pair = predictions(SHAPES[0])
    wanted = theirs(guider(guidance_rescale=0.7), *pair)
    assert_same(ours(variant, *pair, rescale=0.7), wanted, np.abs(pair).max())


@pytest.mark.parametrize("unconditional", [0.0, 1e-30, 1e-5])
def test_hardly_any_unconditional_prediction(unconditional: float) -> None:
    one, _ = predictions(SHAPES[0])
    other = np.full_like(one, unconditional)
    wanted = theirs(ClassifierFreeZeroStarGuidance(SCALE), one, other)
    assert_same(ours(ZeroStar(), one, other), wanted, np.abs(one).max())


@pytest.mark.parametrize("conditional", [0.0, 1e-30, 1e-5])
def test_hardly_any_conditional_prediction(conditional: float) -> None:
    _, other = predictions(SHAPES[0])
    one = np.full_like(other, conditional)
    wanted = theirs(projected(0.3, 2.5), one, other)
    assert_same(ours(Projected(0.3, 2.5), one, other), wanted, np.abs(other).max())


@pytest.mark.parametrize(("variant", "guider"), CASES, ids=[str(variant) for variant, _ in CASES])
@pytest.mark.parametrize("which", [0, 1])
def test_a_nan_spoils_what_it_spoils_there(variant: Variant, guider: Any, which: int) -> None:
    pair = predictions(SHAPES[0])
    pair[which][0, 1, 0, 2, 1] = np.nan
    got, wanted = ours(variant, *pair), theirs(guider(), *pair)
    np.testing.assert_array_equal(np.isnan(got).all(axis=(1, 2, 3, 4)), [True, False])
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))


STEPS = 7
SHAPE = (1, 4, 3, 5, 7)


def answer(latents: Any, timestep: float, means: Any) -> Any:
    """A denoiser's: nonlinear, and not the same for two prompts."""
    mixed = np.cos(np.roll(latents, 1, axis=-1) + np.float32(timestep / 1000) * means)
    return (np.sin(np.float32(1.3) * latents + means) - mixed).astype(np.float32)


class Denoiser:
    def __init__(self) -> None:
        self.runs = 0

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.runs += 1
        means = feeds["encoder_hidden_states"].mean((1, 2)).reshape(-1, 1, 1, 1, 1)
        return {"sample": answer(feeds["hidden_states"], float(feeds["timestep"][0]), means)}


PROMPTS = np.full((1, 8, 6), 0.8, np.float32), np.full((1, 8, 6), -0.3, np.float32)


def our_run(scheduler: str, variant: Variant, zero: int, batched: bool) -> tuple[Any, int]:
    denoiser, host = Denoiser(), HostArithmetic()
    expert = Expert(denoiser, SCALE)  # type: ignore[arg-type]
    guided = GuidedDenoiser(lambda _: expert, host, *PROMPTS, batched, variant=variant)
    rule = get_scheduler(scheduler, 3.0)
    schedule = rule.schedule(STEPS)
    still = frozenset(map(float, schedule.timesteps[:zero]))
    step = ZeroInit(Steps(guided, host, Conditioning()), host, Conditioning(), still)
    noise = standard_normal(5, SHAPE)
    *_, last = denoise(step, noise, rule, schedule, host.wait)
    return last.latents, denoiser.runs


def their_run(scheduler: str, guider: Any) -> Any:
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    rule = {
        "euler": lambda: diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        "unipc": lambda: diffusers.UniPCMultistepScheduler(**flow),
    }[scheduler]()
    rule.set_timesteps(STEPS)
    latents = torch.from_numpy(standard_normal(5, SHAPE))
    for index, timestep in enumerate(rule.timesteps):
        guider.set_state(index, STEPS, timestep)
        pair = (
            torch.from_numpy(answer(latents.numpy(), float(timestep), prompt.mean()))
            for prompt in PROMPTS
        )
        latents = rule.step(guider.forward(*pair).pred, timestep, latents, return_dict=False)[0]
    return latents.numpy()


@pytest.mark.parametrize("scheduler", ["euler", "unipc"])
@pytest.mark.parametrize("zero", [0, 1, 3])
@pytest.mark.parametrize("batched", [True, False])
def test_steps_without_velocity(scheduler: str, zero: int, batched: bool) -> None:
    got, runs = our_run(scheduler, ZeroStar(), zero, batched)
    wanted = their_run(scheduler, ClassifierFreeZeroStarGuidance(SCALE, zero_init_steps=zero))
    assert np.linalg.norm(got - wanted) <= 1e-5 * np.linalg.norm(wanted)
    assert runs == (1 if batched else 2) * (STEPS - zero)


@pytest.mark.parametrize("scheduler", ["euler", "unipc"])
def test_a_projected_run(scheduler: str) -> None:
    got, _ = our_run(scheduler, Projected(0.3, 9.0), 0, batched=True)
    wanted = their_run(scheduler, projected(0.3, 9.0))
    assert np.linalg.norm(got - wanted) <= 1e-5 * np.linalg.norm(wanted)
