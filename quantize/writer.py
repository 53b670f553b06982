"""A quantized bundle in the making: its new graphs, and everything else as it was."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import cast

import msgspec

from ..engine.bundle import Bundle, describe_files
from ..engine.manifest import (
    DENOISERS,
    Manifest,
    Precision,
    QualitySpec,
    QuantizationSpec,
    write_manifest,
)
from ..engine.presets import without_loras
from .sensitivity import Choice, Subject
from .tensors import WeightFile


class Writer:
    """Writes a bundle into a folder that is made for it."""

    def __init__(self, bundle: Bundle, folder: Path, backend: str) -> None:
        self._bundle = bundle
        self._backend = backend
        self._folder = folder
        self._graphs = dict(bundle.manifest.graphs)
        self._formats: dict[str, dict[str, str]] = {}

    def graph(self, subject: Subject, choice: Choice, precision: str) -> None:
        """Write a graph with products in other formats."""
        name, spec = subject.graph, self._graphs[subject.graph]
        data = f"{name}.{precision}.data"
        with WeightFile(self._folder / data) as weights:
            (self._folder / spec.file).write_bytes(subject.write(choice, weights))
        self._formats[name] = dict(choice)
        self._graphs[name] = msgspec.structs.replace(
            spec, data=(data,), precision=cast("Precision", precision)
        )

    def finish(self) -> Bundle:
        """Copy what is not written yet; a bundle that can be run, not yet described as a whole."""
        manifest = self._bundle.manifest
        replaced = {
            file
            for name in self._formats
            for file in (manifest.graphs[name].file, *manifest.graphs[name].data)
        }
        needed = {file for spec in self._graphs.values() for file in (spec.file, *spec.data)}
        if not all(spec.takes_loras for name, spec in self._graphs.items() if name in DENOISERS):
            manifest = without_loras(manifest)
        for file in manifest.files:
            path = self._folder / file
            if not path.exists() and (file in needed or file not in replaced):
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self._bundle.file(file), path)
        written = msgspec.structs.replace(
            manifest, graphs=self._graphs, files=describe_files(self._folder)
        )
        write_manifest(self._folder, written)
        return Bundle.open(self._folder)

    def describe(self, written: Bundle, quality: QualitySpec) -> Manifest:
        """Say in the bundle what was done to it."""
        manifest = msgspec.structs.replace(
            written.manifest,
            quantization=QuantizationSpec(
                source=self._bundle.sha256,
                backend=self._backend,
                formats=self._formats,
                quality=quality,
            ),
        )
        write_manifest(self._folder, manifest)
        return manifest
