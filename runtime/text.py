"""Prompt → token ids, cleaned and cut as diffusers' `WanPipeline` does."""

from __future__ import annotations

import contextlib
import html
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError

log = logging.getLogger(__name__)


def clean(prompt: str) -> str:
    """Mend broken unicode, resolve HTML entities (twice, as the reference does), fold white space.

    Source: diffusers `pipelines/wan/pipeline_wan.py`, `prompt_clean`.
    """
    import ftfy

    mended = ftfy.fix_text(prompt)
    with contextlib.suppress(ValueError):  # a character's number of thousands of digits
        mended = html.unescape(html.unescape(mended))
    return re.sub(r"\s+", " ", mended.strip()).strip()


@dataclass(frozen=True)
class Tokens:
    """Token ids, int64 (tokens,), and what of the prompt did not fit."""

    ids: NDArray[np.int64]
    cut: str


class Tokenizer:
    """A bundle's `tokenizer.json`, holding prompts to the length the model was trained with."""

    def __init__(self, path: Path, max_tokens: int) -> None:
        import tokenizers

        try:
            self._native = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:
            # the native library raises nothing more precise
            raise BundleError(f"{path} is not a tokenizer: {error}") from None
        self._native.no_padding()
        self._native.enable_truncation(max_length=max_tokens)
        self.max_tokens = max_tokens

    @property
    def words(self) -> frozenset[str]:
        """All tokens, without the mark that says where a word begins."""
        return frozenset(token.removeprefix("▁") for token in self._native.get_vocab())

    def __call__(self, prompt: str) -> Tokens:
        """Token ids of a prompt; warns, with the words, when its end is cut off."""
        text = clean(prompt)
        encoding = self._native.encode(text)
        cut = _overflow(text, encoding.overflowing)
        if cut:
            log.warning(
                "the prompt is longer than %d tokens; this part is ignored: %r",
                self.max_tokens,
                cut,
            )
        return Tokens(np.asarray(encoding.ids, np.int64), cut)


def _overflow(text: str, overflowing: list[Any]) -> str:
    """The end of the text that the first, kept piece does not cover; pieces are `Encoding`s."""
    starts = [
        start
        for piece in overflowing
        for (start, end), special in zip(piece.offsets, piece.special_tokens_mask, strict=True)
        if not special and end > start
    ]
    return text[min(starts) :].strip() if starts else ""
