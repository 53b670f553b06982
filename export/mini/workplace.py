"""The folder that a model is trained in: whose it is, what is finished, what is under way."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from ...engine.folders import whole_folder, write_whole
from ...errors import UserError
from .recipe import Recipe

RECIPE = "recipe.json"
LOCK = ".lock"


class Workplace:
    """A folder with one subfolder a stage.

    A finished stage has `<stage>/model`; one under way has `<stage>/state.safetensors`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def stage(self, name: str) -> Path:
        """The folder of a stage, made where it is missing."""
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        return folder

    def product(self, stage: str) -> Path:
        """Where a finished stage's result lies.

        Raises:
            UserError: the stage is not finished.
        """
        path = self.path / stage / "model"
        if not path.is_dir():
            raise UserError(
                f"{self.path} has no finished {stage!r} stage; run it first: "
                f"python -m mutoscope.export.mini train {stage} --out {self.path}"
            )
        return path

    def finished(self, stage: str) -> bool:
        """Whether a stage's result is there."""
        return (self.path / stage / "model").is_dir()

    def finish(self, stage: str, save: Callable[[Path], object]) -> None:
        """Let `save` write a stage's result into a folder that appears whole or not at all."""
        target = self.stage(stage) / "model"
        for left in target.parent.glob(f".{target.name}.*"):
            shutil.rmtree(left)  # by a process that was killed while it wrote
        with whole_folder(target) as folder:
            save(folder)

    @contextmanager
    def claimed(self, recipe: Recipe) -> Iterator[None]:
        """Keep the folder to this process, and to one recipe for all of its stages.

        Raises:
            UserError: another process trains here, or another recipe was used here before.
        """
        self._make()
        with (self.path / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another process is training in {self.path}; wait for it or choose another "
                    "folder with --out"
                ) from None
            self._check_recipe(recipe)
            yield

    def _make(self) -> None:
        if not self.path.parent.is_dir():
            raise UserError(f"cannot train in {self.path}: there is no folder {self.path.parent}")
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"cannot train in {self.path}: it is not a folder")
        self.path.mkdir(exist_ok=True)

    def _check_recipe(self, recipe: Recipe) -> None:
        """Compare what shapes the weights; budgets and workers may change between two calls."""
        settings = asdict(recipe)
        del settings["minutes"], settings["workers"]
        ours = json.loads(json.dumps(settings))
        path = self.path / RECIPE
        if not path.exists():
            write_whole(path, json.dumps(ours, indent=1).encode() + b"\n")
            return
        theirs = read_json(path)
        changed = [
            key for key in ours if not isinstance(theirs, dict) or theirs.get(key) != ours[key]
        ]
        if changed:
            raise UserError(
                f"{self.path} was begun with another recipe ({', '.join(changed)} differ); "
                "choose another folder with --out, or the same --device and --seed"
            )


def read_json(path: Path) -> object:
    """A JSON file of ours.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it and train again") from None
