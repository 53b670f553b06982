"""The folder that a model is trained in, and the budgets of its stages; no PyTorch needed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from mutoscope.engine.folders import write_whole
from mutoscope.errors import UserError
from mutoscope.export.mini.recipe import CPU, GPU, MAIN, SHAPES, Budget, ClipShape, budgets
from mutoscope.export.mini.workplace import Workplace, read_json


def test_a_budget_counts_steps_where_they_are_given() -> None:
    assert Budget(minutes=1, steps=8).progress(2, 999) == 0.25
    assert Budget(minutes=2).progress(99, 30) == 0.25
    assert Budget(steps=0).progress(0, 0) == 1


@pytest.mark.parametrize(("recipe", "limit"), [(CPU, 180), (GPU, 20)])
def test_the_checkpoint_is_trained_in_time(recipe: object, limit: float) -> None:
    assert isinstance(recipe, type(CPU))
    assert sum(recipe.minutes.get(stage, 0) for stage in MAIN) < limit


def test_minutes_are_shared_out_as_in_the_recipe() -> None:
    plan = budgets(CPU, ("vae", "dit"), minutes=28, steps=None)
    assert plan["vae"].minutes == pytest.approx(28 * 60 / 140)
    assert plan["dit"].minutes == pytest.approx(28 * 80 / 140)


def test_shapes_fit_the_compression() -> None:
    assert ClipShape(96, 64, 17).tokens == 5 * 6 * 4
    assert sum(shape.share for shape in SHAPES) == pytest.approx(1)
    for shape in SHAPES:
        assert (shape.width % 16, shape.height % 16, shape.frames % 4) == (0, 0, 1)


def test_a_file_is_whole_or_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    write_whole(path, b"first")
    monkeypatch.setattr(os, "fsync", _fail)
    with pytest.raises(OSError, match="full"):
        write_whole(path, b"second")
    assert path.read_bytes() == b"first"
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def _fail(_: int) -> None:
    raise OSError("full")


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with (
        Workplace(folder).claimed(CPU),
        pytest.raises(UserError, match=f"^another process is training in {folder}; wait for it"),
        Workplace(folder).claimed(CPU),
    ):
        pass


def test_a_folder_keeps_to_one_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with Workplace(folder).claimed(CPU):
        pass
    with Workplace(folder).claimed(replace(CPU, minutes={}, workers=3)):
        pass
    changed = replace(CPU, seed=1, shard=2)
    with (
        pytest.raises(UserError, match=r"begun with another recipe \(seed, shard differ\); choose"),
        Workplace(folder).claimed(changed),
    ):
        pass


def test_a_folder_is_made_but_not_its_parents(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "run"
    with (
        pytest.raises(UserError, match=f"there is no folder {missing.parent}$"),
        Workplace(missing).claimed(CPU),
    ):
        pass
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="it is not a folder$"),
        Workplace(tmp_path / "file").claimed(CPU),
    ):
        pass


def test_a_stage_is_finished_all_at_once(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path)

    def interrupted(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workplace.finish("vae", interrupted)
    assert not workplace.finished("vae")
    assert list((tmp_path / "vae").iterdir()) == []
    with pytest.raises(UserError, match="has no finished 'vae' stage; run it first: python -m"):
        workplace.product("vae")
    (tmp_path / "vae" / ".model.killed.partial").mkdir()
    workplace.finish("vae", lambda folder: (folder / "weights").touch())
    assert [p.name for p in workplace.product("vae").iterdir()] == ["weights"]
    assert [p.name for p in (tmp_path / "vae").iterdir()] == ["model"]


def test_damaged_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(UserError, match=r"recipe.json cannot be read .* remove it and train again"):
        read_json(tmp_path / "recipe.json")
