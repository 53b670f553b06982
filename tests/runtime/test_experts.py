"""Two experts on the null backend: which one predicts, how it is guided, what stays open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import mutoscope
import numpy as np
import pytest
from mutoscope import UserError
from mutoscope.cli.inspect import inspect_bundle
from mutoscope.engine import Bundle, Sessions
from mutoscope.engine.backends.null import NullSession
from mutoscope.engine.manifest import DENOISERS
from mutoscope.engine.open import EngineOptions
from mutoscope.runtime.experts import Experts
from mutoscope.runtime.pipeline import Pipeline
from mutoscope.runtime.request import Request, settle

BOUNDARY = 500


class Run(NamedTuple):
    """One run of a denoiser."""

    graph: str
    timestep: float
    batch: int


@pytest.fixture
def pipe(expert_bundle_folder: Path) -> Iterator[Pipeline]:
    with mutoscope.load(expert_bundle_folder, backend="null") as opened:
        yield opened


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Every run of a denoiser, as it is made."""
    seen: list[Run] = []
    plain = NullSession._run

    def spy(self: NullSession, feeds: Any) -> Any:
        if self.name in DENOISERS:
            timesteps = feeds["timestep"]
            seen.append(Run(self.name, float(timesteps[0]), len(timesteps)))
        return plain(self, feeds)

    monkeypatch.setattr(NullSession, "_run", spy)
    return seen


def opened(pipe: Pipeline) -> list[str]:
    return [name for name in DENOISERS if name in pipe.sessions._opened]


@pytest.mark.parametrize("scheduler", ["euler", "unipc", "dpmpp-2m"])
def test_the_first_predicts_down_to_the_boundary(
    pipe: Pipeline, runs: list[Run], scheduler: str
) -> None:
    pipe("a red circle", steps=7, scheduler=scheduler, shift=1)
    timesteps = [run.timestep for run in runs]
    assert timesteps == sorted(timesteps, reverse=True)
    assert [run.graph for run in runs] == [
        "denoiser" if timestep >= BOUNDARY else "denoiser_2" for timestep in timesteps
    ]
    assert {run.graph for run in runs} == set(DENOISERS)


def test_the_boundary_itself_is_the_firsts(pipe: Pipeline) -> None:
    below = np.nextafter(np.float32(BOUNDARY), np.float32(0))
    experts = Experts(pipe.sessions, (4.0, 3.0), [np.float32(BOUNDARY), below])
    for timestep, name, scale in ((BOUNDARY, "denoiser", 4.0), (below, "denoiser_2", 3.0)):
        expert = experts(np.float32(timestep))
        assert (expert.session.name, expert.scale) == (name, scale)


def test_only_the_one_that_predicts_is_open(
    pipe: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    monkeypatch.setattr(NullSession, "close", lambda self: closed.append(self.name))
    seen: list[list[str]] = []
    for _ in range(2):
        pipe("a red circle", steps=4, shift=1, on_step=lambda step: seen.append(opened(pipe)))
    assert seen == [["denoiser"], ["denoiser"], ["denoiser_2"], ["denoiser_2"]] * 2
    assert closed == ["denoiser", "denoiser_2", "denoiser"]


@pytest.mark.parametrize(
    ("memory", "keep_open", "both"), [(300, True, True), (299, True, False), (300, False, False)]
)
def test_both_stay_open_where_a_gpu_has_room(
    expert_bundle_folder: Path, memory: int, keep_open: bool, both: bool
) -> None:
    bundle = Bundle.open(expert_bundle_folder)
    graphs = [bundle.manifest.graphs[name] for name in DENOISERS]
    names = [name for graph in graphs for name in (graph.file, *graph.data)]
    weights = sum(bundle.file(name).stat().st_size for name in names)
    device: Any = SimpleNamespace(memory=memory * weights // 100)
    options = EngineOptions(stream=SimpleNamespace(device=device))  # type: ignore[arg-type]
    sessions = Sessions(bundle, "null", options, keep_open=keep_open)
    experts = Experts(sessions, (4.0, 3.0), [])
    first = experts(np.float32(BOUNDARY)).session
    experts(np.float32(0))
    assert sorted(sessions._opened) == (list(DENOISERS) if both else ["denoiser_2"])
    assert (experts(np.float32(BOUNDARY)).session is first) == both


def test_one_denoiser_stays_open(bundle_folder: Path) -> None:
    with mutoscope.load(bundle_folder, backend="null") as pipe:
        pipe("a red circle")
        session = pipe.sessions("denoiser")
        pipe("a red circle")
        assert pipe.sessions("denoiser") is session


@pytest.mark.parametrize(
    ("scales", "batches", "prompts"),
    [
        ({"guidance_scale": 4}, (2, 2), 2),
        ({"guidance_scale": 4, "guidance_scale_2": 1}, (2, 1), 2),
        ({"guidance_scale": 1, "guidance_scale_2": 4}, (1, 2), 2),
        ({"guidance_scale": 1}, (1, 1), 1),
        ({"guidance_scale": 0.5, "guidance_scale_2": 1}, (1, 1), 1),
    ],
    ids=["both", "first", "second", "none", "none, each given"],
)
def test_an_expert_without_guidance_predicts_once_a_step(
    pipe: Pipeline,
    runs: list[Run],
    scales: dict[str, float],
    batches: tuple[int, int],
    prompts: int,
) -> None:
    pipe("a red circle", steps=4, shift=1, **scales)
    for name, batch in zip(DENOISERS, batches, strict=True):
        assert [run.batch for run in runs if run.graph == name] == [batch, batch]
    assert pipe.sessions("text_encoder").runs == prompts


def test_predictions_one_after_the_other(pipe: Pipeline, runs: list[Run]) -> None:
    pipe("a red circle", steps=2, shift=1, sequential_guidance=True)
    assert [run.batch for run in runs] == [1, 1, 1, 1]
    with pytest.raises(UserError, match="sequential_guidance must be True or False, not 'yes'"):
        pipe("a red circle", sequential_guidance="yes")


@pytest.mark.parametrize(
    ("interval", "batches"),
    [
        ((0.25, 0.75), [1, 2, 2, 1]),
        ((0, 0.5), [2, 2, 1, 1]),
        ((0.3, 0.3), [1, 1, 1, 1]),
        ((0, 1), [2, 2, 2, 2]),
    ],
)
def test_steps_out_of_the_interval_are_not_guided(
    pipe: Pipeline, runs: list[Run], interval: tuple[float, float], batches: list[int]
) -> None:
    pipe("a red circle", steps=4, shift=1, guidance_interval=interval)
    assert [run.batch for run in runs] == batches


def test_steps_without_velocity_open_no_expert(pipe: Pipeline, runs: list[Run]) -> None:
    stream = pipe.stream(
        "a red circle", steps=4, shift=1, guidance_method="cfg-zero", zero_init_steps=3
    )
    assert opened(pipe) == ["denoiser_2"]
    list(stream)
    assert [(run.graph, run.batch) for run in runs] == [("denoiser_2", 2)]


@pytest.mark.parametrize(
    ("default", "given", "wanted"),
    [
        ({}, {}, (4, 4)),
        ({"guidance_scale_2": 3.0}, {}, (4, 3)),
        ({"guidance_scale_2": 3.0}, {"guidance_scale": 6}, (6, 6)),
        ({"guidance_scale_2": 3.0}, {"guidance_scale_2": 1}, (4, 1)),
        ({"guidance_scale_2": 3.0}, {"guidance_scale": 6, "guidance_scale_2": 1}, (6, 1)),
    ],
)
def test_the_second_scale(
    pipe: Pipeline, default: dict[str, float], given: dict[str, float], wanted: tuple[float, float]
) -> None:
    manifest = pipe.bundle.manifest
    defaults = msgspec.structs.replace(manifest.defaults, **default)
    changed = msgspec.structs.replace(manifest, defaults=defaults)
    settings = settle(Request.of("a red circle", dict(given)), changed)
    assert settings.guidance_scales == wanted
    assert settings.record()["guidance_scale_2"] == wanted[1]


@pytest.mark.parametrize("second", [None, 1.0, 0.0])
def test_a_distilled_bundle_predicts_once_a_step(
    pipe: Pipeline, runs: list[Run], second: float | None
) -> None:
    """Its default guidance scale is 1: nobody has to ask for that."""
    manifest = pipe.bundle.manifest
    defaults = msgspec.structs.replace(
        manifest.defaults, guidance_scale=1.0, guidance_scale_2=second, steps=4
    )
    pipe.bundle.manifest = msgspec.structs.replace(manifest, defaults=defaults)
    pipe("a red circle")
    assert [run.batch for run in runs] == [1, 1, 1, 1]
    assert pipe.sessions("text_encoder").runs == 1


def test_a_second_scale_that_cannot_be(pipe: Pipeline, bundle_folder: Path) -> None:
    with pytest.raises(UserError, match="guidance_scale_2 must be 0 or more and at most 100, not"):
        pipe("a red circle", guidance_scale_2=-1)
    with (
        mutoscope.load(bundle_folder, backend="null") as single,
        pytest.raises(UserError) as caught,
    ):
        single("a red circle", guidance_scale_2=3)
    assert str(caught.value) == (
        "the bundle null has one denoiser: give guidance_scale alone; "
        "guidance_scale_2 is for two, as in Wan 2.2 A14B"
    )


def test_streams_take_turns(pipe: Pipeline) -> None:
    """Each opens the expert that it needs, whatever the other one had open."""
    first, second = (pipe.stream("a red circle", steps=4, shift=1) for _ in range(2))
    next(first)
    next(first)
    assert [(a.index, b.index) for a, b in zip(first, second, strict=False)] == [(2, 0), (3, 1)]
    assert len(list(second)) == 2


def test_other_loras_need_another_stream(pipe: Pipeline) -> None:
    stream = pipe.stream("a red circle")
    next(stream)
    pipe.set_loras({})
    with pytest.raises(UserError) as caught:
        next(stream)
    assert str(caught.value) == "the LoRAs were changed while this clip was made; begin it again"
    assert len(pipe("a red circle").frames) == 5


def test_inspect_tells_of_both(expert_bundle_folder: Path) -> None:
    facts = inspect_bundle(expert_bundle_folder)
    assert facts["denoiser"]["boundary"] == 0.5
    assert set(DENOISERS) <= set(facts["graphs"])
