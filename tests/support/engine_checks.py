"""What is expected of TensorRT's engines, on a GPU and on a fake of the API alike."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope.bench.gpu_engines import Case
from mutoscope.bench.quality.similarity import similarity
from mutoscope.engine import Bundle, EngineOptions, open_graph
from mutoscope.engine.profiles import LatentSize
from mutoscope.engine.store import Engine, EngineStore

EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
PROMPT = "a red circle moves left to right"
LORAS = {"outlines": 1.0}


def check_refit(backend: str, request: dict[str, Any], floor_db: float, apart_db: float) -> Any:
    """LoRAs change a clip as they do on the CPU; there is an engine of the denoiser for them.

    Args:
        backend: its name.
        request: of a clip.
        floor_db: PSNR beside the CPU's clip, at least.
        apart_db: how much greater that is, at least, than beside the clip without LoRAs.

    Returns:
        The frames of that one, made after the engine had its LoRAs.
    """
    with (
        mutoscope.load(preset="full", backend=backend, loras=LORAS) as changed,
        mutoscope.load(preset="full", loras=LORAS) as wanted,
    ):
        frames = changed(PROMPT, **request).frames
        near = similarity(frames, wanted(PROMPT, **request).frames).psnr
        changed.set_loras({})
        plain = changed(PROMPT, **request).frames
    assert near >= floor_db
    assert similarity(frames, plain).psnr + apart_db <= near
    return plain


def check_budgets(backend: str, stream: Any, size: LatentSize, most_error: float) -> None:
    """Whatever part of the weights stays on the device, and no more does, results are the CPU's.

    There is an engine of the denoiser whose weights can be streamed.
    """
    bundle = Bundle.open(EMBEDDED)
    feeds = Case(EMBEDDED, size).feeds(bundle)
    with open_graph(bundle, "denoiser") as plain:
        wanted = np.asarray(plain.run(feeds)["sample"])

    def run(budget: int | None) -> Any:
        options = EngineOptions(stream=stream, weight_budget=budget)
        with open_graph(bundle, "denoiser", backend=backend, options=options) as session:
            found = np.asarray(session.run(feeds)["sample"])
            engine: Any = session._context._engine  # type: ignore[attr-defined]
            held = engine.weight_streaming_budget_v2
        assert np.abs(found - wanted).max() <= most_error * np.abs(wanted).max()
        return engine.streamable_weights_size, held

    whole, _ = run(None)
    assert whole > 0
    for budget in (0, whole // 2, whole, 2 * whole):
        assert run(budget)[1] <= min(budget, whole)


def check_timings(make: Callable[[LatentSize], Any], caplog: pytest.LogCaptureFixture) -> None:
    """What one build timed is there for the next, which takes it and adds to it."""
    sizes = [LatentSize(1, 4, 4), LatentSize(2, 6, 6)]
    with caplog.at_level(logging.INFO, "mutoscope"):
        make(sizes[0])
        (path,) = (EngineStore().folder / ".caches").iterdir()
        first = EngineStore().load_cache(path.name)
        make(sizes[1])
    second = EngineStore().load_cache(path.name)
    assert caplog.messages == []
    assert path.suffix == ".timings"
    assert first
    assert second
    assert len(second) > len(first)


def check_anothers_engine(
    make: Callable[[EngineStore], Engine],
    run: Callable[[], Any],
    folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An engine that another store wrote is not opened: it is set aside, and built anew."""
    theirs, ours = make(EngineStore(folder)), EngineStore()
    ours.folder.mkdir(parents=True, exist_ok=True)
    theirs.path.rename(ours.folder / theirs.path.name)
    with caplog.at_level(logging.WARNING, "mutoscope"):
        run()
    (told,) = caplog.messages
    assert "was not built here: its signature is another's; set aside in " in told
    (engine,) = ours.engines()
    assert engine.record.spec == theirs.record.spec
    (aside,) = ours.folder.glob(f".*.aside/{theirs.path.name}/engine.plan")
    assert aside.stat().st_size == theirs.record.plan.size
