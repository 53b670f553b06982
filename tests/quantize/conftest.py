"""The embedded bundle, quantized once, and bundles that cannot be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from mutoscope.engine.bundle import Bundle, describe_files
from mutoscope.engine.manifest import read_manifest, write_manifest
from mutoscope.engine.onnx_file import OnnxFile
from mutoscope.quantize import quantize_bundle
from quantized import EMBEDDED, SMALL


@pytest.fixture(scope="session")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("quantized") / "int8"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUTOSCOPE_CACHE", str(target.parent / "cache"))
        quantize_bundle(EMBEDDED, target, SMALL)
    return target


@pytest.fixture
def change(tmp_path: Path) -> Callable[..., Path]:
    """A copy of the embedded bundle, with other values of one weight or another manifest."""

    def change(weight: str | None = None, value: float = 0, **fields: Any) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(EMBEDDED, folder)
        manifest, _ = read_manifest(folder)
        if weight is not None:
            file = OnnxFile(Bundle.open(folder), "denoiser")
            (tensor,) = (t for t in file.model.graph.initializer if t.name == weight)
            offset = {e.key: e.value for e in tensor.external_data}["offset"]
            with (folder / "denoiser.data").open("r+b") as stream:
                stream.seek(int(offset))
                stream.write(np.float16(value).tobytes())
        changed = msgspec.structs.replace(manifest, files=describe_files(folder), **fields)
        write_manifest(folder, changed)
        return folder

    return change
