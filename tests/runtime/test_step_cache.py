"""Steps that are foretold: which ones, how well, and what is computed anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope.bench.quality.similarity import similarity
from mutoscope.runtime.arithmetic import HostArithmetic, Prediction
from mutoscope.runtime.conditioning import Conditioning
from mutoscope.runtime.denoise import Steps, denoise
from mutoscope.runtime.experts import Expert
from mutoscope.runtime.guidance import GuidedDenoiser
from mutoscope.runtime.schedulers import get_scheduler
from mutoscope.runtime.step_cache import StepCache

HOST = HostArithmetic()
SHAPE = (1, 4, 3, 4, 6)
EVER = 9.0
"""A threshold that no change reaches."""
Answer = Callable[[float], Any]


class Denoiser:
    """Predicts what a function of the timestep says; keeps the timesteps it was asked at."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[float] = []

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        timestep = float(feeds["timestep"][0])
        self.asked.append(timestep)
        velocity = np.broadcast_to(self.answer(timestep), feeds["hidden_states"].shape)
        return {"sample": velocity.astype(np.float32)}


def spared(
    *denoisers: Denoiser, threshold: float, steps: int, boundary: float = -1.0, scheduler: str
) -> tuple[np.ndarray[Any, Any], list[int], GuidedDenoiser[Any]]:
    """The latents at the end of a run, the steps that were foretold, and what predicted."""
    experts = [Expert(denoiser, 1.0) for denoiser in denoisers]  # type: ignore[arg-type]
    prompt = np.ones((1, 8, 6), np.float32)
    guided = GuidedDenoiser(lambda t: experts[int(t < boundary)], HOST, prompt, None, True)
    rule = get_scheduler(scheduler, 3.0)
    cache = StepCache(guided, HOST, threshold, steps)
    noise = HOST.noise(3, SHAPE)
    steps_of = Steps(cache, HOST, Conditioning())
    done = list(denoise(steps_of, noise, rule, rule.schedule(steps), HOST.wait))
    return done[-1].latents, [step.index for step in done if step.foretold], guided


PATTERN = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)


def line(timestep: float) -> Any:
    return PATTERN[0] + timestep / 1000 * PATTERN[1]


@pytest.mark.parametrize("scheduler", ["euler", "unipc", "dpmpp-2m"])
def test_a_velocity_that_moves_along_a_line_is_foretold_exactly(scheduler: str) -> None:
    every, few = Denoiser(line), Denoiser(line)
    wanted, none, _ = spared(every, threshold=0, steps=12, scheduler=scheduler)
    latents, foretold, _ = spared(few, threshold=EVER, steps=12, scheduler=scheduler)
    assert (len(every.asked), none) == (12, [])
    assert (len(few.asked), foretold) == (4, list(range(3, 11)))
    np.testing.assert_allclose(latents, wanted, atol=2e-5)


def test_the_threshold_decides() -> None:
    """The lower it is the more is computed, and the nearer is the result."""

    def bent(timestep: float) -> Any:
        return PATTERN[0] * np.sin(timestep / 200) + PATTERN[1]

    wanted, _, _ = spared(Denoiser(bent), threshold=0, steps=40, scheduler="euler")
    errors, computed = [], []
    for threshold in (0.02, 0.1, 0.5):
        denoiser = Denoiser(bent)
        latents, _, _ = spared(denoiser, threshold=threshold, steps=40, scheduler="euler")
        errors.append(float(np.abs(latents - wanted).max()))
        computed.append(len(denoiser.asked))
    assert computed == sorted(computed, reverse=True)
    assert errors[0] < 0.2 * errors[-1]
    assert 4 < computed[-1] < computed[0] < 40


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_the_first_steps_and_the_last_are_computed(steps: int) -> None:
    denoiser = Denoiser(line)
    _, foretold, _ = spared(denoiser, threshold=EVER, steps=steps, scheduler="euler")
    assert (len(denoiser.asked), foretold) == (steps, [])


def test_another_expert_is_asked_twice_before_it_is_foretold() -> None:
    first, second = Denoiser(line), Denoiser(lambda timestep: -line(timestep))
    _, foretold, _ = spared(
        first, second, threshold=EVER, steps=12, boundary=800.0, scheduler="euler"
    )
    change = len([t for t in get_scheduler("euler", 3.0).schedule(12).timesteps if t >= 800])
    assert 3 < change < 9
    assert foretold == [*range(3, change), *range(change + 2, 11)]
    assert len(second.asked) == 3


def test_another_prompt_is_asked_twice_before_it_is_foretold() -> None:
    denoiser = Denoiser(line)
    expert = Expert(denoiser, 1.0)  # type: ignore[arg-type]
    guided = GuidedDenoiser(
        lambda t: expert, HOST, np.ones((1, 8, 6), np.float32), None, batched=True
    )
    cache = StepCache(guided, HOST, EVER, 12)
    foretold = []
    for index, timestep in enumerate(np.linspace(1000, 100, 12, dtype=np.float32)):
        if index == 6:
            guided.prompt = np.ones((1, 8, 6), np.float32)
        found = cache(HOST.noise(index, SHAPE), timestep)
        foretold.append(found.foretold)
    assert [index for index, told in enumerate(foretold) if told] == [3, 4, 5, 8, 9, 10]


@pytest.mark.parametrize("answer", [float("nan"), 0.0], ids=["NaN", "zero"])
def test_what_cannot_be_foretold_is_computed(answer: float) -> None:
    denoiser = Denoiser(lambda timestep: answer)
    _, foretold, _ = spared(denoiser, threshold=EVER, steps=8, scheduler="euler")
    assert (len(denoiser.asked), foretold) == (8, [])


def test_guidance_is_foretold_with_the_rest() -> None:
    """What is kept is the guided velocity."""
    answers = {1.0: 2.0, 0.0: 1.0}

    def run(feeds: Mapping[str, Any]) -> dict[str, Any]:
        means = feeds["encoder_hidden_states"].mean((1, 2)).reshape(-1, 1, 1, 1, 1)
        told = np.vectorize(answers.get)(means)
        return {"sample": np.broadcast_to(told, feeds["hidden_states"].shape).astype(np.float32)}

    session: Any = SimpleNamespace(run=run)
    texts = np.ones((1, 8, 6), np.float32), np.zeros((1, 8, 6), np.float32)
    expert = Expert(session, 4.0)
    guided = GuidedDenoiser(lambda t: expert, HOST, *texts, batched=True)
    cache = StepCache(guided, HOST, EVER, 10)
    found: list[Prediction[Any]] = [
        cache(HOST.noise(index, SHAPE), np.float32(900 - 50 * index)) for index in range(6)
    ]
    assert [step.foretold for step in found] == [False] * 3 + [True] * 3
    for step in found:
        assert step.unconditional is None
        np.testing.assert_allclose(step.conditional, 1 + 4 * (2 - 1), rtol=1e-6)


def test_a_clip_stays_the_clip_that_it_was() -> None:
    with mutoscope.load(preset="full") as pipe:
        whole = pipe("a red circle moves left to right", seed=7, steps=30)
        quick = pipe("a red circle moves left to right", seed=7, steps=30, step_cache=0.2)
    assert whole.record.foretold_steps == []
    assert len(quick.record.foretold_steps) >= 15
    assert quick.record.settings["step_cache"] == 0.2
    assert similarity(quick.frames, whole.frames).psnr >= 30
