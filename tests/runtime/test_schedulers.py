"""Schedules, steps and convergence, against values and solutions known without PyTorch."""

import math

import numpy as np
import pytest
from mutoscope.errors import UserError
from mutoscope.runtime.schedulers import SCHEDULERS, Schedule, Scheduler, get_scheduler
from numpy.typing import NDArray
from stepping import step

Array = NDArray[np.float32]

NAMES = sorted(SCHEDULERS)
START = (-1.5, -0.25, 0.5, 2.0)

# diffusers 0.42.1, shift 3, 4 steps: sigmas, timesteps, and the latents after each step from START
# under `velocity` below.
KNOWN = {
    "euler": (
        (1.0, 0.857692301, 0.602150559, 0.00892857183, 0.0),
        (1000.0, 857.692322, 602.150574, 8.9285717),
        (
            (-1.2829808, -0.0907933, 0.6031731, 1.943077),
            (-0.9419402, 0.139773, 0.7359842, 1.8175035),
            (-0.3579752, 0.4543648, 0.842759, 1.4396608),
            (-0.3564118, 0.4522318, 0.8384422, 1.4314629),
        ),
    ),
    "unipc": (
        (0.999998987, 0.90011996, 0.750374794, 0.500998974, 0.0),
        (999.0, 900.0, 750.0, 500.0),
        (
            (-1.3477844, -0.1383602, 0.5723124, 1.9599485),
            (-1.145174, -0.0002221, 0.65296, 1.8876375),
            (-0.8834398, 0.1485263, 0.7125989, 1.7352507),
            (-0.4507404, 0.3607148, 0.7591522, 1.4002151),
        ),
    ),
    "dpmpp-2m": (
        (0.999666452, 0.899639785, 0.749624789, 0.499666542, 0.0),
        (999.0, 899.0, 749.0, 499.0),
        (
            (-1.3475593, -0.1381952, 0.5724193, 1.9598893),
            (-1.1407399, 0.0046026, 0.657394, 1.8892165),
            (-0.8690628, 0.1634224, 0.725916, 1.7400136),
            (-0.4403467, 0.3705932, 0.7675616, 1.4033525),
        ),
    ),
}


def velocity(latents: Array, timestep: float) -> Array:
    field: Array = 0.5 * latents - timestep / 1000 + 0.1 * latents * latents
    return field.astype(np.float32)


def spread(sigma: float) -> float:
    """Standard deviation at sigma, where the clean latents' is 0.5: the exact path's size."""
    return math.hypot(sigma, 0.5 * (1 - sigma))


def gaussian_velocity(latents: Array, sigma: float) -> Array:
    """The exact velocity for normal clean latents; its flow scales latents by `spread`."""
    factor = (sigma - 0.25 * (1 - sigma)) / spread(sigma) ** 2
    return latents * np.float32(factor)


def run(scheduler: Scheduler, schedule: Schedule, steps: int, latents: Array) -> Array:
    history: tuple[Array, ...] = ()
    for index in range(steps):
        moving = gaussian_velocity(latents, float(schedule.sigmas[index]))
        latents, history = step(scheduler, schedule, index, latents, moving, history)
    return latents


def error_of(name: str, steps: int) -> float:
    """Of a run with steps even in log-SNR from sigma 0.95 to 0.05, short of the one to 0."""
    log_snr = np.linspace(-math.log(19), math.log(19), steps + 1)
    sigmas = np.append(1 / (1 + np.exp(log_snr)), 0.0).astype(np.float32)
    schedule = Schedule(sigmas, sigmas[:-1] * np.float32(1000))
    first, last = float(sigmas[0]), float(sigmas[steps])
    start = np.full((1,), spread(first), np.float32)
    return abs(float(run(get_scheduler(name, 1.0), schedule, steps, start)[0]) - spread(last))


@pytest.mark.parametrize("name", NAMES)
def test_known_schedules(name: str) -> None:
    sigmas, timesteps, _ = KNOWN[name]
    schedule = get_scheduler(name, 3.0).schedule(4)
    assert schedule.steps == 4
    assert schedule.sigmas.dtype == schedule.timesteps.dtype == np.float32
    # Nine digits name a float32 exactly.
    assert np.array_equal(schedule.sigmas, np.array(sigmas, np.float32))
    assert np.array_equal(schedule.timesteps, np.array(timesteps, np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_known_steps(name: str) -> None:
    scheduler = get_scheduler(name, 3.0)
    schedule, latents = scheduler.schedule(4), np.array(START, np.float32)
    history: tuple[Array, ...] = ()
    for index, expected in enumerate(KNOWN[name][2]):
        moving = velocity(latents, float(schedule.timesteps[index]))
        latents, history = step(scheduler, schedule, index, latents, moving, history)
        assert latents.dtype == np.float32
        # Seven decimals in the table, and a few float32 roundings of values up to 2.
        np.testing.assert_allclose(latents, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_single_step_goes_to_the_predicted_clean_latents(name: str) -> None:
    scheduler = get_scheduler(name, 5.0)
    schedule, latents = scheduler.schedule(1), np.array(START, np.float32)
    moving = velocity(latents, float(schedule.timesteps[0]))
    moved, _ = step(scheduler, schedule, 0, latents, moving, ())
    # Two float32 roundings of values up to 2.
    np.testing.assert_allclose(moved, latents - schedule.sigmas[0] * moving, rtol=0, atol=5e-7)


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("dpmpp-2m", 2), ("unipc", 3)])
def test_halving_the_steps_shrinks_the_error_by_the_order(name: str, order: int) -> None:
    # UniPC's corrector adds an order. What is left of 5 % are the next terms of the error.
    assert error_of(name, 40) / error_of(name, 80) == pytest.approx(2**order, rel=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_steps_end_at_the_exact_solution(name: str) -> None:
    scheduler = get_scheduler(name, 3.0)
    schedule = scheduler.schedule(1000)
    assert len(schedule.sigmas) == 1001
    start = np.full((2, 3), spread(float(schedule.sigmas[0])), np.float32)
    # Euler's error is about 1.4 / steps here, the others' is rounding: 1000 steps at 6e-8.
    bound = 2e-3 if name == "euler" else 1e-4
    np.testing.assert_allclose(run(scheduler, schedule, 1000, start), 0.5, rtol=0, atol=bound)


@pytest.mark.parametrize("name", ["dpmpp-2m", "unipc"])
def test_higher_orders_are_closer_than_euler(name: str) -> None:
    errors = {}
    for each in ("euler", name):
        scheduler = get_scheduler(each, 1.0)
        schedule = scheduler.schedule(30)
        start = np.full((1,), spread(float(schedule.sigmas[0])), np.float32)
        errors[each] = abs(float(run(scheduler, schedule, 30, start)[0]) - 0.5)
    assert errors[name] < errors["euler"] / 4


@pytest.mark.parametrize("name", NAMES)
def test_given_sigmas_may_begin_at_one(name: str) -> None:
    sigmas = np.array([1.0, 0.75, 0.5, 0.25, 0.0], np.float32)
    schedule = Schedule(sigmas, sigmas[:-1] * np.float32(1000))
    ended = run(get_scheduler(name, 1.0), schedule, 4, np.ones(3, np.float32))
    # Four steps leave an error of some tenths; a log-SNR that is not taken to its limit, NaN.
    np.testing.assert_allclose(ended, 0.5, rtol=0, atol=0.25)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_a_function_of_its_inputs(name: str) -> None:
    scheduler = get_scheduler(name, 3.0)
    schedule, random = scheduler.schedule(5), np.random.default_rng(0)
    latents, moving = random.standard_normal((2, 1, 16, 3, 5), np.float32)
    history: tuple[Array, ...] = ()
    for index in range(5):
        given = (latents, moving, schedule.sigmas, *history)
        before = [array.copy() for array in given]
        first = step(scheduler, schedule, index, latents, moving, history)
        second = step(scheduler, schedule, index, latents, moving, history)
        assert all(map(np.array_equal, before, given))
        assert np.array_equal(first[0], second[0])
        assert all(map(np.array_equal, first[1], second[1]))
        made = (first[0], *first[1])
        assert not any(np.shares_memory(new, old) for new in made for old in given)
        latents, history = first


def test_the_history_stays_short() -> None:
    lengths: dict[str, list[int]] = {}
    for name in NAMES:
        scheduler = get_scheduler(name, 3.0)
        schedule, latents = scheduler.schedule(4), np.ones(2, np.float32)
        history: tuple[Array, ...] = ()
        lengths[name] = []
        for index in range(4):
            latents, history = step(scheduler, schedule, index, latents, latents, history)
            lengths[name].append(len(history))
    assert lengths == {"euler": [0, 0, 0, 0], "dpmpp-2m": [1, 1, 1, 1], "unipc": [2, 3, 3, 3]}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_moves_without_velocity(name: str) -> None:
    scheduler = get_scheduler(name, 5.0)
    schedule, latents = scheduler.schedule(6), np.array(START, np.float32)
    still = np.zeros(4, np.float32)
    history: tuple[Array, ...] = ()
    for index in range(6):
        moved, history = step(scheduler, schedule, index, latents, still, history)
        # The weights add up to 1 but for their rounding to float32; the largest is below 2.
        np.testing.assert_allclose(moved, latents, rtol=5e-7)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        get_scheduler("eular", 3.0)
    assert str(caught.value) == (
        "unknown scheduler 'eular'; did you mean 'euler'? (known: dpmpp-2m, euler, unipc)"
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_out_of_range(name: str, steps: int) -> None:
    with pytest.raises(UserError) as caught:
        get_scheduler(name, 3.0).schedule(steps)
    assert str(caught.value) == f"steps must be between 1 and 1000, not {steps}"


@pytest.mark.parametrize("shift", [0.0, -1.0, 1001.0, math.nan])
def test_shift_out_of_range(shift: float) -> None:
    with pytest.raises(UserError) as caught:
        get_scheduler("euler", shift)
    assert str(caught.value) == f"shift must be 0.01 or more and at most 1000, not {shift:g}"


@pytest.mark.parametrize("sigmas", [(1.0, 0.5, 0.5, 0.0), (0.5, 1.0, 0.0), (1.0, 0.5, 0.1)])
def test_sigmas_that_do_not_fall_to_zero_are_refused(sigmas: tuple[float, ...]) -> None:
    given = np.array(sigmas, np.float32)
    with pytest.raises(UserError) as caught:
        Schedule(given, given[:-1])
    assert str(caught.value) == (
        "the sigmas of this run do not fall to 0 at every step; "
        "use fewer steps, or a shift nearer to 1"
    )


def test_a_shift_that_leaves_float32_no_room_is_refused() -> None:
    # 1000 steps at shift 1000 put two sigmas on the same float32, which would divide by 0.
    with pytest.raises(UserError, match="do not fall to 0"):
        get_scheduler("unipc", 1000.0).schedule(1000)


def test_one_step_needs_no_terminal_sigma() -> None:
    assert get_scheduler("euler", 3.0, terminal=0.4).schedule(1).sigmas.tolist() == [1.0, 0.0]
