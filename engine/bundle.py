"""The bundle: what `export` writes and every backend opens.

A folder with ONNX graphs, their external weights, a tokenizer and `bundle.json`. Nothing in it is
trusted: sizes are bounded, paths stay in the folder, every file's sha256 is compared.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath

from ..errors import BundleError
from .digests import digest
from .manifest import (
    FILE_NAME,
    FULL_PRESET,
    FileSpec,
    GraphSpec,
    Manifest,
    Precision,
    read_manifest,
)


class Bundle:
    """An opened bundle: its folder and its checked manifest.

    Attributes:
        path: the folder.
        manifest: what `bundle.json` says.
        sha256: of `bundle.json`, which holds every other file's: the identity of the whole.
        preset: the name of the one whose defaults are in the manifest; `full` for its own.
    """

    def __init__(
        self, path: Path, manifest: Manifest, sha256: str, preset: str = FULL_PRESET
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.sha256 = sha256
        self.preset = preset

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, reread: bool = False) -> Bundle:
        """Open a bundle folder and check every file in it.

        Args:
            path: of the folder.
            reread: large files too whose digests are remembered.

        Raises:
            BundleError: no bundle there, or one that is damaged, unsafe or of another version.
        """
        folder = Path(path)
        manifest, raw = read_manifest(folder)
        check_files(folder, manifest, reread=reread)
        return cls(folder, manifest, hashlib.sha256(raw).hexdigest())

    def graph(self, name: str) -> GraphSpec:
        """The graph of that name.

        Raises:
            BundleError: the bundle has none of that name.
        """
        try:
            return self.manifest.graphs[name]
        except KeyError:
            known = ", ".join(sorted(self.manifest.graphs))
            raise BundleError(f"{self.path} has no graph {name!r} (it has: {known})") from None

    def file(self, name: str) -> Path:
        """The path of one of the bundle's files, which stays inside the folder.

        Raises:
            BundleError: the path leaves the folder.
        """
        return contained(self.path, name)

    @property
    def precision(self) -> Precision:
        """The denoiser's precision, by which the bundle is called."""
        return self.graph("denoiser").precision


def describe_files(folder: Path) -> dict[str, FileSpec]:
    """Size and sha256 of every file below the folder, but for `bundle.json` itself."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != FILE_NAME)
    with ThreadPoolExecutor() as pool:
        digests = pool.map(digest, paths)
        return {
            path.relative_to(folder).as_posix(): FileSpec(size=path.stat().st_size, sha256=sha256)
            for path, sha256 in zip(paths, digests, strict=True)
        }


def check_files(folder: Path, manifest: Manifest, *, reread: bool = False) -> None:
    """Compare every file with what `bundle.json` says of it.

    Raises:
        BundleError: a file is missing, of another length, or changed.
    """
    paths = {name: contained(folder, name) for name in manifest.files}
    for name, spec in manifest.files.items():
        if not paths[name].is_file():
            raise BundleError(f"{folder} lacks {name}; copy or export the bundle again")
        size = paths[name].stat().st_size
        if size != spec.size:
            raise BundleError(
                f"{paths[name]} has {size:,} bytes, {spec.size:,} expected; "
                "copy or export the bundle again"
            )
    for path in folder.iterdir():
        listed = path.name in {name.partition("/")[0] for name in manifest.files}
        if not listed and path.name != FILE_NAME and not path.name.startswith("."):
            raise BundleError(
                f"{path} is not part of the bundle; remove it, weights could hide in it"
            )
    with ThreadPoolExecutor() as pool:
        found = pool.map(partial(digest, reread=reread), paths.values())
        for name, sha256 in zip(paths, found, strict=True):
            if sha256 != manifest.files[name].sha256:
                raise BundleError(
                    f"{paths[name]} is not the file that was exported (its sha256 differs); "
                    "copy or export the bundle again"
                )


def contained(folder: Path, name: str) -> Path:
    """`folder/name`, refused where it would lie outside the folder, through a link too.

    Raises:
        BundleError: the path is absolute, climbs out or links out of the folder.
    """
    pure = PurePosixPath(name)
    inside = not pure.is_absolute() and ".." not in pure.parts and "\\" not in name
    try:
        root = folder.resolve()
        inside = inside and (root / pure).resolve().is_relative_to(root)
    except (OSError, ValueError):
        inside = False
    if not inside:
        raise BundleError(f"{folder / FILE_NAME} names {name!r}, outside the bundle; refused")
    return folder / pure
