"""A GPU's arithmetic gives NumPy's bits. Its kernels run on this CPU; `--gpu`: on a GPU too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutoscope.kernels.guidance_weights import Projected, Variant, ZeroStar
from mutoscope.runtime.arithmetic import HostArithmetic, Prediction, arithmetic_on
from mutoscope.runtime.tiles import spans
from mutoscope.runtime.video.feed import RGB

SHAPES = [(1, 4, 2, 5, 7), (1, 16, 3, 8, 6), (1, 3, 1, 2, 2)]
HOST = HostArithmetic()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    kinds = ["cpu", "gpu"] if metafunc.config.getoption("--gpu") else ["cpu"]
    metafunc.parametrize("device", kinds, indirect=True)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "cpu":
        yield arithmetic_on(request.getfixturevalue("cpu_stream"))
        return
    from mutoscope.kernels.cuda_core import open_device

    with open_device().stream() as stream:
        yield arithmetic_on(stream)


def random(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def same(device: Any, got: Any, wanted: np.ndarray[Any, Any]) -> bool:
    values = device.numpy(got)
    return bool(values.shape == wanted.shape and values.tobytes() == wanted.tobytes())


@pytest.mark.parametrize("shape", SHAPES)
def test_noise(device: Any, shape: tuple[int, ...]) -> None:
    assert same(device, device.noise(2**63 + 5, shape), HOST.noise(2**63 + 5, shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_two_as_a_batch_and_back(device: Any, shape: tuple[int, ...]) -> None:
    one, other = random(*shape), random(*shape, seed=1)
    both = device.stack(device.array(one), device.array(other))
    assert same(device, both, np.concatenate([one, other]))
    halves = device.halves(both)
    assert all(same(device, g, w) for g, w in zip(halves, (one, other), strict=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_channels_side_by_side(device: Any, shape: tuple[int, ...]) -> None:
    one, other = random(*shape), random(1, 5, *shape[2:], seed=1)
    both = device.join(device.array(one), device.array(other))
    assert same(device, both, HOST.join(one, other))
    assert same(device, both, np.concatenate([one, other], axis=1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("known", [0, 3])
@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_a_step(
    device: Any, shape: tuple[int, ...], guided: bool, known: int, rescale: float
) -> None:
    latents, one, other, *past = (random(*shape, seed=i) for i in range(3 + known))
    weights = np.random.default_rng(9).normal(size=(1 + known, 2 + known))
    told = Prediction(one, other if guided else None, 4.3, rescale)
    wanted = HOST.step(weights, latents, told, past)
    there_too = device.array(other) if guided else None
    prediction = Prediction(device.array(one), there_too, 4.3, rescale)
    there = [device.array(p) for p in past]
    given = device.array(latents)
    got = device.step(weights, given, prediction, there)
    assert len(got) == len(wanted) == 1 + known
    assert all(same(device, g, w) for g, w in zip(got, wanted, strict=True))
    assert same(device, given, latents)


@pytest.mark.parametrize("variant", [ZeroStar(), Projected(0.3, 2.5)], ids=str)
@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_a_step_by_weights(device: Any, variant: Variant, rescale: float) -> None:
    latents, one, other, past = (random(*SHAPES[0], seed=i) for i in range(4))
    weights = np.random.default_rng(9).normal(size=(2, 3))
    wanted = HOST.step(weights, latents, Prediction(one, other, 4.3, rescale, variant), [past])
    there = Prediction(device.array(one), device.array(other), 4.3, rescale, variant)
    got = device.step(weights, device.array(latents), there, [device.array(past)])
    assert all(same(device, g, w) for g, w in zip(got, wanted, strict=True))
    unguided = Prediction(one, None, 4.3, rescale, variant)
    (alone,) = HOST.step(weights[:1], latents, unguided, [past])
    (plain,) = HOST.step(weights[:1], latents, Prediction(one), [past])
    assert alone.tobytes() == plain.tobytes()


def test_distances_of_pairs(device: Any) -> None:
    one, other, third = (random(*SHAPES[0], seed=i) for i in range(3))
    pairs = [(one, other), (other, third), (third, one)]
    got = device.relative_l1([tuple(map(device.array, pair)) for pair in pairs])
    assert got.tobytes() == HOST.relative_l1(pairs).tobytes()
    assert len(set(got)) == 3


@pytest.mark.parametrize("shape", SHAPES)
def test_frames_of_latents(device: Any, shape: tuple[int, ...]) -> None:
    latents, first = random(*shape), random(*shape[:2], 1, *shape[3:], seed=1)
    mean, std = random(shape[1], seed=2), random(shape[1], seed=3)
    held = device.hold(device.array(latents), device.array(first))
    assert same(device, held, HOST.hold(latents, first))
    for index in range(shape[2]):
        got = device.latent_frame(held, index, device.array(mean), device.array(std))
        wanted = HOST.latent_frame(HOST.hold(latents, first), index, mean, std)
        assert same(device, got, wanted)


def test_tiles_are_taken_and_added(device: Any) -> None:
    frame, canvas, scale = random(1, 4, 1, 9, 13), random(1, 3, 2, 18, 26, seed=1), 2
    there, below = device.array(frame), device.array(canvas)
    for row in spans(9, 5, scale):
        for column in spans(13, 5, scale):
            got = device.take_tile(there, row, column)
            assert same(device, got, HOST.take_tile(frame, row, column))
            tile = random(1, 3, 2, scale * row.length, scale * column.length, seed=row.start)
            weights, place = (
                (row.weights, column.weights),
                (scale * row.start, scale * column.start),
            )
            device.add_tile(below, *map(device.array, (tile, *weights)), *place)
            HOST.add_tile(canvas, tile, *weights, *place)
    assert same(device, below, canvas)
    assert same(device, device.zeros((2, 3)), np.zeros((2, 3), np.float32))


def test_pictures(device: Any) -> None:
    frames = random(1, 3, 4, 18, 26)
    there = device.rgb8(device.array(frames))
    np.testing.assert_array_equal(np.asarray(there), HOST.rgb8(frames))
    pieces = [frames[:, :, :1], frames[:, :, 1:]]
    made = list(device.pictures(map(device.array, pieces), RGB))
    for got, wanted in zip(made, HOST.pictures(pieces, RGB), strict=True):
        np.testing.assert_array_equal(got, wanted)
    latents, matrix, bias = random(1, 4, 3, 5, 7), random(3, 4, seed=1), random(3, seed=2)
    got = device.preview(*map(device.array, (latents, matrix, bias)))
    np.testing.assert_array_equal(got, HOST.preview(latents, matrix, bias))


def test_memory_is_in_bytes(device: Any) -> None:
    assert 1 << 30 <= device.memory <= 1 << 46
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    assert HOST.memory == 1024 * int(lines["MemTotal"].split()[0])


def test_an_array_is_read_on_the_host(device: Any) -> None:
    values = random(2, 3)
    np.testing.assert_array_equal(np.asarray(device.array(values)), values)
