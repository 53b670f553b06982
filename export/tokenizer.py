"""The tokenizer of a bundle: one `tokenizer.json`, whatever the checkpoint has."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import CheckpointError
from .checkpoint import Checkpoint

FILE = "tokenizer.json"
SENTENCEPIECE = "spiece.model"


def write_tokenizer(checkpoint: Checkpoint, target: Path) -> None:
    """Write the checkpoint's tokenizer as `tokenizer.json` into a folder.

    Raises:
        CheckpointError: the checkpoint has no tokenizer, or one that cannot be read.
    """
    folder = checkpoint.folder("tokenizer")
    if (folder / FILE).is_file():
        shutil.copyfile(folder / FILE, target / FILE)
    elif (folder / SENTENCEPIECE).is_file():
        _convert(folder, target)
    else:
        raise CheckpointError(
            f"{folder} has neither {FILE} nor {SENTENCEPIECE}; download the checkpoint again"
        )
    _check(target / FILE, folder)


def _convert(folder: Path, target: Path) -> None:
    """Let transformers make the fast tokenizer of a SentencePiece model."""
    from transformers import T5TokenizerFast

    tokenizer = T5TokenizerFast.from_pretrained(folder)
    tokenizer.backend_tokenizer.save(str(target / FILE))


def _check(path: Path, folder: Path) -> None:
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no narrower one
        raise CheckpointError(
            f"{folder} has a tokenizer that cannot be read ({error}); download it again"
        ) from None
