"""Encoders' threads are ordinary ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mutoscope.runtime.video import ClipWriter, scheduling
from mutoscope.runtime.video.encoders import ENCODERS
from mutoscope.runtime.video.scheduling import scheduled_as_before
from mutoscope.runtime.video.selection import failure
from mutoscope.runtime.video.spec import ClipSpec

pytestmark = pytest.mark.skipif(not scheduling.THREADS.exists(), reason="only Linux tells")
ORDINARY = {(os.SCHED_OTHER, 0)}


def schedules() -> set[tuple[int, int]]:
    return set(scheduling._schedules().values())


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9"])
def test_an_encoder_leaves_all_threads_ordinary(
    tmp_path: Path, clip: Any, writer: Callable[..., ClipWriter], codec: str
) -> None:
    """As root SVT-AV1 made 44 threads and the caller real-time ones, which starved all others."""
    name = "clip.webm" if codec == "vp9" else "clip.mp4"
    with writer(tmp_path / name, clip, codec=codec) as opened:
        for frame in clip:
            opened.write(frame)
            assert schedules() == ORDINARY
    assert schedules() == ORDINARY


def test_a_trial_leaves_them_too() -> None:
    small = ClipSpec.checked(width=96, height=64, fps=12, frames=1)
    assert failure(ENCODERS["libsvtav1"], small) is None
    assert schedules() == ORDINARY


def test_what_changes_inside_is_put_back() -> None:
    """Of the caller, of other threads, and of those that are started inside."""
    batch, stop, threads = (os.SCHED_BATCH, 0), threading.Event(), []

    def start() -> int:
        thread = threading.Thread(target=stop.wait)
        thread.start()
        threads.append(thread)
        assert thread.native_id is not None
        return thread.native_id

    other = start()
    try:
        with scheduled_as_before():
            for thread in (0, other):
                os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
            start()
            assert batch in schedules()
        assert batch not in schedules()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_where_there_is_no_list_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "THREADS", tmp_path / "none")
    with scheduled_as_before():
        pass
