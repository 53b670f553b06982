"""Tests that time a program run alone: the locks, and that every test takes its turn."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import quiet
from quiet import turn

Waits = Callable[..., bool]


class Impatient:
    """`fcntl` as `turn` takes it; in one thread it fails where it would wait."""

    LOCK_EX, LOCK_SH = fcntl.LOCK_EX, fcntl.LOCK_SH

    def __init__(self) -> None:
        self.thread: int | None = None

    def flock(self, file: Any, kind: int) -> None:
        mine = self.thread == threading.get_ident()
        fcntl.flock(file, kind | fcntl.LOCK_NB if mine else kind)


@pytest.fixture
def waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Waits:
    """Whether a turn would have to wait now; on files of the test's own.

    A lock belongs to an open file: threads of one process stand for processes.
    """
    impatient = Impatient()
    monkeypatch.setattr(quiet, "fcntl", impatient)
    for name in ("DOOR", "ROOM"):
        (tmp_path / name).touch()
        monkeypatch.setattr(quiet, name, tmp_path / name)

    def waits(*, alone: bool) -> bool:
        impatient.thread = threading.get_ident()
        try:
            with turn(alone=alone):
                return False
        except BlockingIOError:
            return True
        finally:
            impatient.thread = None

    return waits


def test_others_run_beside_each_other_and_one_alone_waits_for_them(waits: Waits) -> None:
    with turn(alone=False):
        assert not waits(alone=False)
        assert waits(alone=True)
    assert not waits(alone=True)


def test_nobody_runs_beside_one_alone(waits: Waits) -> None:
    with turn(alone=True):
        assert waits(alone=False)
        assert waits(alone=True)
    assert not waits(alone=False)


def test_who_comes_later_does_not_go_before_one_that_waits_to_be_alone(waits: Waits) -> None:
    """Else tests beside each other could keep it out until the last."""
    entered, leave = threading.Event(), threading.Event()

    def run() -> None:
        with turn(alone=True):
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=run, daemon=True)
    with turn(alone=False):
        thread.start()
        late = time.monotonic() + 30
        while not door_is_held() and time.monotonic() < late:
            assert thread.is_alive()
        assert waits(alone=False)
        assert not entered.is_set()
    assert entered.wait(60)
    assert waits(alone=False)
    leave.set()
    thread.join()
    assert not waits(alone=False)


def door_is_held() -> bool:
    with quiet.DOOR.open() as door:
        try:
            fcntl.flock(door, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def can_enter(kind: int) -> bool:
    with quiet.ROOM.open() as room:
        try:
            fcntl.flock(room, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_this_one_is_in_the_room_like_others() -> None:
    assert not can_enter(fcntl.LOCK_EX)
    assert can_enter(fcntl.LOCK_SH)


@pytest.mark.quiet
def test_this_one_is_alone() -> None:
    assert not can_enter(fcntl.LOCK_SH)
