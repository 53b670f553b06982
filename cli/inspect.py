"""`mutoscope inspect`: what a bundle, an engine, a LoRA or a clip is, and how it was made."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import click
import msgspec

from ..engine import Bundle
from ..engine.lora import own_loras
from ..engine.manifest import FILE_NAME, Manifest
from ..engine.store import MANIFEST, EngineStore, check_files, read_record
from ..errors import UserError

LORA = ".safetensors"
MAX_SHOWN = 200
"""Longer values of a LoRA's metadata, whole training logs, are left out."""


@click.command(epilog="Example: mutoscope inspect clip.mp4")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(path: Path, *, as_json: bool) -> None:
    """Tell what PATH is: a bundle, an engine, a LoRA or a clip."""
    try:
        path.stat()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from None
    if (path / FILE_NAME).exists():
        facts = inspect_bundle(path)
    elif (path / MANIFEST).exists():
        facts = inspect_engine(path)
    else:
        facts = inspect_lora(path) if path.suffix == LORA else inspect_clip(path)
    click.echo(json.dumps(facts) if as_json else "\n".join(_lines(facts)))


def inspect_bundle(path: Path) -> dict[str, Any]:
    """Facts of a bundle, after reading every file in it."""
    bundle = Bundle.open(path, reread=True)
    manifest = bundle.manifest
    facts: dict[str, Any] = msgspec.to_builtins(manifest)
    del facts["files"], facts["latents"]["preview"]
    return {
        "kind": "bundle",
        "path": str(path),
        "sha256": bundle.sha256,
        "loras": list(own_loras(bundle)),
        "megabytes": round(sum(file.size for file in manifest.files.values()) / 1e6, 1),
        **_warning(manifest),
        **facts,
        "graphs": {name: _graph(manifest, name) for name in manifest.graphs},
    }


def _warning(manifest: Manifest) -> dict[str, Any]:
    """What a user ought to know before all else."""
    quantization = manifest.quantization
    if quantization is None or not quantization.quality.missed:
        return {}
    missed = "; ".join(quantization.quality.missed)
    return {"warning": f"it misses the quality gate, which was accepted: {missed}"}


def inspect_lora(path: Path) -> dict[str, Any]:
    """Facts of a LoRA; `strength` is what alpha and rank make of a scale of 1."""
    from ..engine.lora.file import read_file
    from ..engine.lora.layers import read_layers

    file = read_file(path)
    layers = read_layers(file)
    return {
        "kind": "lora",
        "path": str(path),
        "sha256": file.sha256,
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "tensors": len(file.tensors),
        "stored": sorted({tensor.stored for tensor in file.tensors.values()}),
        "rank": sorted({layer.rank for layer in layers.values() if layer.rank}),
        "strength": sorted({layer.strength for layer in layers.values()}),
        "targets": sorted({_kind_of_layer(name) for name in layers}),
        "metadata": {k: v for k, v in file.metadata.items() if len(v) <= MAX_SHOWN},
    }


def inspect_engine(path: Path) -> dict[str, Any]:
    """Facts of an engine, after checking its files; `signed` by the store that it lies in, or not.

    Raises:
        EngineError: its record or a file is damaged.
    """
    record = read_record(path, None)
    check_files(path, record)
    facts: dict[str, Any] = msgspec.to_builtins(record)
    spec = facts.pop("spec")
    del facts["plan"], facts["listing"], facts["hmac"]
    return {
        "kind": "engine",
        "path": str(path),
        "key": record.spec.key,
        **spec,
        "megabytes": round(record.plan.size / 1e6, 1),
        **facts,
        "signed": EngineStore(path.absolute().parent).signed(record),
    }


def inspect_clip(path: Path) -> dict[str, Any]:
    """Facts of a video file; `made` is how, where the file tells."""
    from ..runtime.video import probe

    clip = dataclasses.asdict(probe(path))
    tags = dict(clip.pop("metadata"))
    facts = {name: value for name, value in clip.items() if value is not None}
    facts |= {"path": str(path), "fps": clip["fps"] and float(clip["fps"])}
    return {"kind": "clip", **facts, **_made(tags)}


def _made(tags: dict[str, str]) -> dict[str, Any]:
    """The provenance that `generate` wrote; other tags as they are."""
    try:
        made = json.loads(tags.get("comment", ""))
    except (ValueError, RecursionError):
        made = None
    if isinstance(made, dict) and "settings" in made:
        return {"made": made}
    return {"tags": tags} if tags else {}


def _kind_of_layer(name: str) -> str:
    """The name of a layer with `*` for the number of its block."""
    return re.sub(r"(?<=blocks[._])[0-9]+", "*", name)


def _graph(manifest: Manifest, name: str) -> dict[str, Any]:
    graph = manifest.graphs[name]
    return {
        "precision": graph.precision,
        "takes_loras": graph.takes_loras,
        "megabytes": round(sum(manifest.files[f].size for f in (graph.file, *graph.data)) / 1e6, 1),
        "inputs": [_tensor(t) for t in graph.inputs],
        "outputs": [_tensor(t) for t in graph.outputs],
    }


def _tensor(spec: Any) -> str:
    return f"{spec.name} {spec.dtype} {list(spec.shape)}"


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {_printable(str(value))}")
    return lines


def _printable(text: str) -> str:
    """The text without what would command a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
