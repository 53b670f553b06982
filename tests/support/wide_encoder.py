"""The embedded text encoder with a wide feed-forward: UMT5's graph with many weights.

As a program it runs the encoder of a bundle and prints how many bytes that took at most, beyond
what the process had: `wide_encoder.py BUNDLE [MOST]`, in parts of at most so many bytes.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import msgspec
import numpy as np
from mutoscope.engine import Bundle, EngineOptions
from mutoscope.engine.backends.onnxruntime import open_session, parts
from mutoscope.engine.backends.onnxruntime.session import package
from mutoscope.engine.bundle import describe_files
from mutoscope.engine.manifest import TEXT_ENCODER, write_manifest
from mutoscope.engine.memory import peak_memory_mb, reset_peak_memory
from mutoscope.engine.onnx_file import OnnxFile
from quantized import EMBEDDED

HALF = 2
FEEDS = {"input_ids": np.array([[5, 9, 30, 1]]), "attention_mask": np.ones((1, 4), np.int64)}


def widen(folder: Path, width: int) -> int:
    """Write the bundle; its feed-forward's weights are random, fp16 on the disk.

    Returns:
        how many weights are new.
    """
    shutil.copytree(EMBEDDED, folder)
    bundle = Bundle.open(folder)
    graph = bundle.graph(TEXT_ENCODER)
    file = OnnxFile(bundle, TEXT_ENCODER)
    rng, added = np.random.default_rng(0), 0
    with (folder / graph.data[0]).open("ab") as stream:
        for tensor in file.model.graph.initializer:
            if ".DenseReluDense." in tensor.name:
                before = max(tensor.dims)
                tensor.dims[:] = [width if length == before else length for length in tensor.dims]
                values = 0.05 * rng.standard_normal(tuple(tensor.dims), np.float32)
                placed = {"offset": stream.tell(), "length": HALF * values.size}
                for entry in tensor.external_data:
                    entry.value = str(placed.get(entry.key, entry.value))
                stream.write(values.astype(np.float16))
                added += values.size
    (folder / graph.file).write_bytes(file.serialize())
    manifest = msgspec.structs.replace(bundle.manifest, files=describe_files(folder))
    write_manifest(folder, manifest)
    return added


def measure(bundle: Bundle) -> int:
    """Bytes of memory that opening and running the encoder takes at most."""
    package()
    reset_peak_memory()
    before = peak_memory_mb()
    with open_session(bundle, TEXT_ENCODER, EngineOptions(1)) as session:
        session.run(FEEDS)
    return round((peak_memory_mb() - before) * 2**20)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        parts.PART, parts.MOST = int(sys.argv[2]), 0
    print(measure(Bundle.open(sys.argv[1])))  # noqa: T201
