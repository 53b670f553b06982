"""Checkpoint folders that are wrong somewhere, without weights worth the name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

INDEX: dict[str, Any] = {
    "_class_name": "WanPipeline",
    "scheduler": ["diffusers", "UniPCMultistepScheduler"],
    "text_encoder": ["transformers", "UMT5EncoderModel"],
    "tokenizer": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "WanTransformer3DModel"],
    "transformer_2": [None, None],
    "vae": ["diffusers", "AutoencoderKLWan"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint with an index, configurations, and nothing else."""
    path = tmp_path / "wan"
    path.mkdir()
    (path / "model_index.json").write_text(json.dumps(INDEX))
    for name in ("scheduler", "text_encoder", "tokenizer", "transformer", "vae"):
        (path / name).mkdir()
        (path / name / "config.json").write_text("{}")
    return path


@pytest.fixture
def change_index(folder: Path) -> Callable[..., None]:
    """Change entries of the index."""

    def change(**entries: Any) -> None:
        (folder / "model_index.json").write_text(json.dumps({**INDEX, **entries}))

    return change
