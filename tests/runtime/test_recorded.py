"""Steps that are recorded, on a CPU in a GPU's place: which ones, and that bits are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from cpu_device import CpuStream
from mutoscope.errors import MutoscopeError
from mutoscope.kernels.guidance_weights import Projected, Variant, ZeroStar
from mutoscope.kernels.recording import Recording
from mutoscope.runtime.arithmetic import arithmetic_on
from mutoscope.runtime.conditioning import Conditioning
from mutoscope.runtime.denoise import Steps, ZeroInit, denoise
from mutoscope.runtime.experts import Expert
from mutoscope.runtime.guidance import GuidedDenoiser
from mutoscope.runtime.recorded import RecordedSteps
from mutoscope.runtime.schedulers import get_scheduler

SHAPE = (1, 3, 3, 5, 7)
STEPS = 8


class Denoiser:
    """Velocity: the latents times the timestep and something of the prompt, on the device."""

    name = "denoiser"

    def __init__(self, stream: CpuStream, *, recordable: bool = True, sound: bool = True) -> None:
        self.stream, self.recordable, self.sound = stream, recordable, sound
        self.runs = 0

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.runs += 1
        given = [feeds[n].values() for n in ("hidden_states", "timestep", "encoder_hidden_states")]
        sample = self.stream.empty(feeds["hidden_states"].shape, "float32")
        if not self.sound:
            self.stream.synchronize()

        def compute() -> None:
            hidden, timestep, prompt = given
            times = timestep.reshape(len(hidden), 1, -1, 1, 1) / 1000
            sample.values()[...] = hidden * times + prompt.mean(axis=(1, 2)).reshape(-1, 1, 1, 1, 1)

        self.stream.do(compute)
        return {"sample": sample}


def take(
    stream: CpuStream,
    experts: list[Expert],
    *,
    recorded: bool = True,
    scheduler: str = "euler",
    batched: bool = True,
    given: Conditioning[Any] | None = None,
    boundary: float = -1.0,
    steer_at: int | None = None,
    variant: Variant | None = None,
    zero: int = 0,
    steps: int = STEPS,
) -> tuple[list[bytes], list[int], list[str]]:
    """Latents after each step, which ones were recorded, and why not."""
    arithmetic = arithmetic_on(stream)
    prompts = [arithmetic.array(np.full((1, 4, 6), v, np.float32)) for v in (0.1, -0.3, 0.7)]
    guided = GuidedDenoiser(
        lambda t: experts[int(t < boundary)], arithmetic, prompts[0], prompts[1], batched,
        given or Conditioning(), variant=variant,
    )  # fmt: skip
    why: list[str] = []
    step = RecordedSteps(guided, stream, why.append)  # type: ignore[arg-type]
    plain = Steps(guided, arithmetic, guided.conditioning)
    rule = get_scheduler(scheduler, 3.0)
    noise = guided.conditioning.hold(arithmetic.noise(3, SHAPE), arithmetic)
    schedule = rule.schedule(steps)
    still = frozenset(map(float, schedule.timesteps[:zero]))
    taken = ZeroInit(step if recorded else plain, arithmetic, guided.conditioning, still)
    done = []
    for one in denoise(taken, noise, rule, schedule, arithmetic.wait):
        done.append(one)
        if one.index == steer_at:
            guided.prompt = prompts[2]
    latents = [arithmetic.numpy(one.latents).tobytes() for one in done]  # all of them, at the end
    return latents, [one.index for one in done if one.recorded], why


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [("euler", [2, 3, 4, 5, 6, 7]), ("unipc", [4, 5, 6, 7]), ("dpmpp-2m", [3, 4, 5, 6, 7])],
)
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("scale", [1.0, 4.5])
def test_the_same_bits_in_fewer_runs(
    cpu_stream: CpuStream, scheduler: str, expected: list[int], batched: bool, scale: float
) -> None:
    denoiser = Denoiser(cpu_stream)
    experts = [Expert(denoiser, scale)]  # type: ignore[arg-type]
    options: Any = {"scheduler": scheduler, "batched": batched}
    wanted, none, _ = take(cpu_stream, experts, recorded=False, **options)
    each = denoiser.runs // STEPS
    cpu_stream.calls.clear()
    latents, recorded, why = take(cpu_stream, experts, **options)
    assert latents == wanted
    assert len(set(latents)) == STEPS
    assert (recorded, none, why) == (expected, [], [])
    assert cpu_stream.calls.count("launch graph") == len(expected)
    assert denoiser.runs == each * (2 * STEPS - len(expected) + 1)


@pytest.mark.parametrize(
    ("variant", "scheduler", "zero", "expected"),
    [
        (ZeroStar(), "euler", 1, [3]),
        (Projected(0.3, 2.5), "unipc", 2, [4]),
    ],
    ids=["cfg-zero", "apg"],
)
def test_variants_of_guidance(
    cpu_stream: CpuStream, variant: Variant, scheduler: str, zero: int, expected: list[int]
) -> None:
    """Weights are computed anew at each launch; steps without velocity are none that repeat."""
    denoiser = Denoiser(cpu_stream)
    experts = [Expert(denoiser, 4.5)]  # type: ignore[arg-type]
    options: Any = {"scheduler": scheduler, "variant": variant, "zero": zero}
    options["steps"] = steps = expected[-1] + 1
    wanted, *_ = take(cpu_stream, experts, recorded=False, **options)
    assert denoiser.runs == steps - zero
    latents, recorded, why = take(cpu_stream, experts, **options)
    assert latents == wanted
    assert (recorded, why) == (expected, [])
    plain, *_ = take(cpu_stream, experts, **{**options, "variant": None})
    assert plain[-1] != latents[-1]


@pytest.mark.parametrize("given", ["first", "beside"])
def test_what_is_given_is_part_of_it(cpu_stream: CpuStream, given: str) -> None:
    array = cpu_stream.upload(np.random.default_rng(1).normal(size=SHAPE).astype(np.float32))
    first = cpu_stream.upload(np.full((1, 3, 1, 5, 7), 0.4, np.float32))
    known = Conditioning(True, first) if given == "first" else Conditioning(False, embedding=array)
    experts = [Expert(Denoiser(cpu_stream), 3.0)]  # type: ignore[arg-type]
    wanted, *_ = take(cpu_stream, experts, recorded=False, given=known)
    latents, recorded, _ = take(cpu_stream, experts, given=known)
    assert latents == wanted
    assert recorded == [2, 3, 4, 5, 6, 7]


def test_another_expert_and_another_prompt_are_other_kinds(cpu_stream: CpuStream) -> None:
    experts = [Expert(Denoiser(cpu_stream), s) for s in (4.5, 1.0)]  # type: ignore[arg-type]
    options: Any = {"boundary": 800.0, "steer_at": 2}
    wanted, *_ = take(cpu_stream, experts, recorded=False, **options)
    latents, recorded, _ = take(cpu_stream, experts, **options)
    assert latents == wanted
    times = get_scheduler("euler", 3.0).schedule(STEPS).timesteps
    change = int((times >= 800).sum())
    kinds = [(int(index > 2), int(index >= change)) for index in range(STEPS)]
    assert recorded == [i for i, kind in enumerate(kinds) if kinds[:i].count(kind) >= 2]
    assert 0 < len(recorded) < 6


@pytest.mark.parametrize(
    ("denoiser", "reason"),
    [
        ({"recordable": False}, "the engine of denoiser cannot be recorded"),
        ({"sound": False}, "what passes through the host cannot be recorded"),
    ],
)
def test_what_cannot_be_recorded_runs_as_ever_and_says_why_once(
    cpu_stream: CpuStream, denoiser: Any, reason: str
) -> None:
    experts = [Expert(Denoiser(cpu_stream, **denoiser), 4.5)]  # type: ignore[arg-type]
    wanted, *_ = take(cpu_stream, experts, recorded=False)
    assert take(cpu_stream, experts) == (wanted, [], [reason])


def test_work_that_is_not_the_same_twice_is_refused(cpu_stream: CpuStream) -> None:
    shapes = iter([(3,), (4,)])

    def work() -> Any:
        return [cpu_stream.empty(next(shapes), "float32")]

    with pytest.raises(MutoscopeError, match="allocates the same arrays each time"):
        Recording(cpu_stream, work, [])  # type: ignore[arg-type]
    assert cpu_stream.empty((2,), "float32").shape == (2,)
