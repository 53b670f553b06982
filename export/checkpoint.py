"""A checkpoint folder in diffusers' format: checked before any work, then read tensor by tensor."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

INDEX = "model_index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MAX_JSON_BYTES = 64 << 20


class Component:
    """One part of a checkpoint: its configuration and its weights in safetensors."""

    def __init__(self, folder: Path, tied: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.tied = tied or {}

    @cached_property
    def config(self) -> dict[str, Any]:
        """`config.json`."""
        return read_json(self.folder / "config.json")

    @cached_property
    def files(self) -> Mapping[str, Path]:
        """The file of every tensor.

        Raises:
            CheckpointError: no weights, weights in pickle files only, a shard that is missing or
                damaged.
        """
        return {name: path for path in self._shards() for name in _names(path)}

    def load(self, name: str) -> Tensor:
        """One tensor, as it is stored.

        Raises:
            CheckpointError: the component has none of that name.
        """
        from safetensors import safe_open

        with safe_open(self._file(name), framework="pt") as stream:
            tensor: Tensor = stream.get_tensor(self._stored(name))
        return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, from its file's header.

        Raises:
            CheckpointError: the component has none of that name.
        """
        from safetensors import safe_open

        with safe_open(self._file(name), framework="pt") as stream:
            return tuple(stream.get_slice(self._stored(name)).get_shape())

    def dtype(self, name: str) -> str:
        """The type of a tensor, as its file's header has it: such as F32 or BF16.

        Raises:
            CheckpointError: the component has none of that name.
        """
        from safetensors import safe_open

        with safe_open(self._file(name), framework="pt") as stream:
            return str(stream.get_slice(self._stored(name)).get_dtype())

    def _file(self, name: str) -> Path:
        if self._stored(name) not in self.files:
            raise CheckpointError(
                f"{self.folder} lacks the weight {name!r}; download the checkpoint again"
            )
        return self.files[self._stored(name)]

    def _stored(self, name: str) -> str:
        """The name in the file: of a tensor with two names, only one may be there."""
        return name if name in self.files else self.tied.get(name, name)

    def _shards(self) -> list[Path]:
        indices = sorted(self.folder.glob("*.safetensors.index.json"))
        if indices:
            return [self._shard(name) for name in _shard_names(indices[0])]
        files = sorted(self.folder.glob("*.safetensors"))
        if not files:
            raise CheckpointError(self._no_weights())
        return [min(files, key=lambda path: len(path.name))]  # not a variant, as model.fp16

    def _shard(self, name: str) -> Path:
        path = self.folder / name
        if Path(name).name != name:
            raise CheckpointError(f"{self.folder} has an index that names {name!r}, outside of it")
        if not path.is_file():
            raise CheckpointError(
                f"{self.folder} lacks the shard {name}, which its index names; "
                "download the checkpoint again"
            )
        return path

    def _no_weights(self) -> str:
        pickles = sorted(p.name for p in self.folder.iterdir() if p.suffix in PICKLES)
        if pickles:
            return (
                f"{self.folder} has its weights in {pickles[0]}, a pickle file, which can run code "
                "when it is opened; refused: convert the checkpoint to safetensors"
            )
        return f"{self.folder} has no weights (*.safetensors); download the checkpoint again"


class Checkpoint:
    """A checkpoint folder, as `from_pretrained` takes it.

    Attributes:
        path: the folder.
        index: its `model_index.json`.
    """

    def __init__(self, path: Path, index: dict[str, Any]) -> None:
        self.path = path
        self.index = index

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Open a checkpoint folder.

        Raises:
            CheckpointError: there is no such folder, or it is not a diffusers checkpoint.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise CheckpointError(f"no checkpoint at {folder}: there is no such folder")
        if not (folder / INDEX).is_file():
            raise CheckpointError(
                f"no checkpoint at {folder}: {INDEX} is missing; "
                "a folder in diffusers' format is needed"
            )
        return cls(folder, read_json(folder / INDEX))

    @property
    def pipeline(self) -> str:
        """The class of the pipeline, by which its family is known."""
        return str(self.index.get("_class_name", ""))

    def has(self, name: str) -> bool:
        """Whether the index names a component that is not empty."""
        entry = self.index.get(name)
        return isinstance(entry, list) and len(entry) == 2 and entry[1] is not None

    def kind(self, name: str) -> str:
        """The class of a component, as the index names it."""
        return str(self.index[name][1]) if self.has(name) else ""

    def folder(self, name: str) -> Path:
        """The folder of a component.

        Raises:
            CheckpointError: the index or the folder is missing.
        """
        folder = self.path / name
        if not self.has(name) or not folder.is_dir():
            raise CheckpointError(
                f"{self.path} lacks its {name} folder; download the checkpoint again"
            )
        return folder

    def config(self, name: str) -> dict[str, Any]:
        """The configuration of a component; its weights need not be there.

        Raises:
            CheckpointError: the index, the folder or its `config.json` is missing.
        """
        return Component(self.folder(name)).config

    def component(self, name: str, tied: Mapping[str, str] | None = None) -> Component:
        """A component with weights, its files checked; `tied` maps names to others of the same.

        Raises:
            CheckpointError: as `folder` and `Component.files`.
        """
        component = Component(self.folder(name), tied)
        _ = component.config, component.files
        return component


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: the file is missing, too large, or not a JSON object.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; download the checkpoint again")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise CheckpointError(f"{path} is larger than {MAX_JSON_BYTES >> 20} MB; refused")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise CheckpointError(
            f"{path} is not valid JSON ({reason}); download the checkpoint again"
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a JSON object; download the checkpoint again")
    return content


def _shard_names(index: Path) -> list[str]:
    mapping = read_json(index).get("weight_map")
    if not isinstance(mapping, dict) or not all(isinstance(v, str) for v in mapping.values()):
        raise CheckpointError(f"{index} has no weight_map; download the checkpoint again")
    return sorted(set(mapping.values()))


def _names(path: Path) -> Iterator[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stream:
            names = list(stream.keys())
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged or cut short ({error}); download the checkpoint again"
        ) from None
    return iter(names)
