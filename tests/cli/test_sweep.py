"""Options of several values."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mutoscope.cli.sweep import combinations
from mutoscope.engine.manifest import read_manifest, write_manifest
from mutoscope.errors import UserError


@pytest.fixture
def half(bundle_folder: Path, tmp_path: Path) -> Path:
    """The same bundle, said to be of fp16."""
    folder = Path(shutil.copytree(bundle_folder, tmp_path / "half"))
    manifest = read_manifest(folder)[0]
    graphs = {
        name: msgspec.structs.replace(graph, precision="fp16")
        for name, graph in manifest.graphs.items()
    }
    write_manifest(folder, msgspec.structs.replace(manifest, graphs=graphs))
    return folder


def chosen(**options: Any) -> list[tuple[Any, ...]]:
    given = {"bundle": (), "precision": (), "steps": (), **options}
    return [tuple(each.values()) for each in combinations(given, list(given))]


def test_every_combination() -> None:
    assert chosen(steps=(4, 30), precision=("fp32",)) == [
        (None, "fp32", 4),
        (None, "fp32", 30),
    ]


def test_several_precisions_go_with_their_bundles(bundle_folder: Path, half: Path) -> None:
    whole = str(bundle_folder)
    found = chosen(bundle=(whole, str(half)), precision=("fp16", "fp32"), steps=(1, 2))
    assert found == [
        (whole, "fp32", 1),
        (whole, "fp32", 2),
        (str(half), "fp16", 1),
        (str(half), "fp16", 2),
    ]


@pytest.mark.parametrize(
    ("precision", "told"),
    [
        (("fp32", "int8"), "each needs a bundle, int8 has none; name them all, as in --bundle"),
        (("fp32", "int9"), "unknown precision 'int9'; did you mean 'int8'?"),
    ],
)
def test_precisions_without_bundles(
    bundle_folder: Path, half: Path, precision: tuple[str, ...], told: str
) -> None:
    bundles = (str(bundle_folder), str(half))
    with pytest.raises(UserError, match=re.escape(told)):
        chosen(bundle=bundles, precision=precision)


def test_a_bundle_of_none_of_them(bundle_folder: Path, half: Path) -> None:
    """Its row would be missed."""
    third = Path(shutil.copytree(half, half.with_name("third")))
    manifest = read_manifest(third)[0]
    denoiser = msgspec.structs.replace(manifest.graphs["denoiser"], precision="int4")
    graphs = {**manifest.graphs, "denoiser": denoiser}
    write_manifest(third, msgspec.structs.replace(manifest, graphs=graphs))
    bundles = (str(bundle_folder), str(half), str(third))
    with pytest.raises(UserError, match=r"third is int4; add it to --precision, or leave it out"):
        chosen(bundle=bundles, precision=("fp32", "fp16"))
