"""The schedulers against diffusers' own, step for step."""

from typing import Any

import numpy as np
import pytest
from mutoscope.runtime.schedulers import get_scheduler
from numpy.typing import NDArray
from stepping import step

Array = NDArray[np.float32]

REASON = "parity tests need the export extra: pip install -e '.[export]'"
torch = pytest.importorskip("torch", reason=REASON)
diffusers = pytest.importorskip("diffusers", reason=REASON)

# diffusers' DPM-Solver turns a tensor into an array in the way that NumPy 2 deprecates.
pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

NAMES = ["euler", "unipc", "dpmpp-2m"]
SHAPES = [(1, 16, 3, 5, 7), (2, 3, 1, 1, 9)]


def reference(name: str, shift: float, steps: int, begin: int = 0) -> Any:
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": shift}
    if name == "euler":
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    elif name == "unipc":
        scheduler = diffusers.UniPCMultistepScheduler(solver_order=2, solver_type="bh2", **flow)
    else:
        scheduler = diffusers.DPMSolverMultistepScheduler(
            algorithm_type="dpmsolver++", solver_order=2, **flow
        )
    scheduler.set_timesteps(steps)
    scheduler.set_begin_index(begin)
    return scheduler


def velocity(latents: Array, timestep: float) -> Array:
    """Nonlinear in the latents, dependent on the time, and mixing neighbours, as a denoiser is."""
    mixed = np.cos(np.roll(latents, 1, axis=-1))
    field = np.sin(np.float32(1.3) * latents + np.float32(timestep / 1000))
    return np.asarray(field + np.float32(0.5) * latents - mixed)


def largest_difference(
    name: str, shift: float, steps: int, shape: tuple[int, ...], begin: int = 0
) -> float:
    """Both run on their own latents; the largest difference after any step."""
    theirs, ours = reference(name, shift, steps, begin), get_scheduler(name, shift)
    schedule = ours.schedule(steps)
    latents = np.random.default_rng(steps).standard_normal(shape, np.float32)
    expected, worst = torch.from_numpy(latents), 0.0
    history: tuple[Array, ...] = ()
    for index in range(begin, steps):
        timestep = theirs.timesteps[index]
        other = torch.from_numpy(velocity(expected.numpy(), timestep.item()))
        expected = theirs.step(other, timestep, expected, return_dict=False)[0]
        mine = velocity(latents, float(schedule.timesteps[index]))
        latents, history = step(ours, schedule, index, latents, mine, history)
        worst = max(worst, float(np.abs(latents - expected.numpy()).max()))
    return worst


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shift", [0.01, 0.5, 1.0, 1.7, 3.0, 5.0, 12.0, 100.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 30, 50, 1000])
def test_schedules_are_equal_bit_for_bit(name: str, shift: float, steps: int) -> None:
    theirs, ours = reference(name, shift, steps), get_scheduler(name, shift).schedule(steps)
    assert np.array_equal(ours.sigmas, theirs.sigmas.numpy())
    assert np.array_equal(ours.timesteps, theirs.timesteps.numpy().astype(np.float32))


@pytest.mark.parametrize("terminal", [0.02, 0.4, 0.9])
@pytest.mark.parametrize("steps", [2, 4, 8, 30])
def test_schedules_stretched_to_a_terminal_sigma_are_equal_bit_for_bit(
    terminal: float, steps: int
) -> None:
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, shift_terminal=terminal)
    theirs.set_timesteps(steps)
    ours = get_scheduler("euler", 3.0, terminal=terminal).schedule(steps)
    assert np.array_equal(ours.sigmas, theirs.sigmas.numpy())
    assert np.array_equal(ours.timesteps, theirs.timesteps.numpy())
    assert ours.sigmas[-2] == np.float32(terminal)


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
@pytest.mark.parametrize("sigmas", [(1.0, 0.75, 0.5, 0.25), (0.9,), (1.0, 0.757, 0.522)])
def test_schedules_of_given_sigmas_are_equal_bit_for_bit(
    shift: float, sigmas: tuple[float, ...]
) -> None:
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(sigmas=list(sigmas))
    ours = get_scheduler("euler", shift, sigmas=sigmas).schedule(len(sigmas))
    assert np.array_equal(ours.sigmas, theirs.sigmas.numpy())
    assert np.array_equal(ours.timesteps, theirs.timesteps.numpy())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0, 12.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 14, 15, 30])
@pytest.mark.parametrize("shape", SHAPES)
def test_whole_runs_agree(name: str, shift: float, steps: int, shape: tuple[int, ...]) -> None:
    # Latents up to 4 in float32, one rounding an operation: 30 steps come to about 5e-6.
    assert largest_difference(name, shift, steps, shape) <= 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_euler_is_equal_bit_for_bit(shape: tuple[int, ...]) -> None:
    # The same two operations in the same order, so nothing may differ.
    assert largest_difference("euler", 3.0, 30, shape) == 0.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("begin", [1, 7, 29])
def test_runs_begun_midway_agree(name: str, begin: int) -> None:
    # As above; without a history both start at first order again.
    assert largest_difference(name, 3.0, 30, SHAPES[0], begin) <= 1e-5


@pytest.mark.parametrize("steps", [1, 4, 7, 30])
@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.0, 0.5), (0.1, 0.8), (0.33, 0.34)])
def test_the_guided_interval(steps: int, interval: tuple[float, float]) -> None:
    guider = diffusers.ClassifierFreeGuidance(start=interval[0], stop=interval[1])
    schedule = get_scheduler("euler", 3.0).schedule(steps)
    wanted = []
    for index, timestep in enumerate(schedule.timesteps):
        guider.set_state(index, steps, torch.tensor(timestep))
        if guider.num_conditions == 2:
            wanted.append(timestep)
    assert schedule.within(interval).tolist() == wanted
