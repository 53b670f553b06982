"""The tokenizer: whole words that the world's captions use, single characters for others."""

from __future__ import annotations

import math
import string
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from .captions import caption, sequel
from .scenes import sample_scenes

CAPTIONS = 10_000
MAX_TOKENS = 512
PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
SPACE = "▁"
CHARACTERS = string.ascii_lowercase + string.digits + ".-'"
ENDINGS = ("ing", "s", "er", "wards", "ed", "ly")
RARE = -11.0
"""The log probability of a character, below that of any word."""


def make_tokenizer(seed: int = 0) -> Any:
    """A fast tokenizer (Unigram) with UMT5's special tokens.

    Its words are counted rather than learnt: a Unigram trainer splits a small vocabulary into
    dozens of pieces a word.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram(_vocabulary(seed), unk_id=2))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, 1)]
    )
    return _fast(tokenizer_object=tokenizer)


def load_tokenizer(folder: Path) -> Any:
    """A tokenizer that was saved with `save_pretrained`."""
    return _fast(tokenizer_file=str(folder / "tokenizer.json"))


def _fast(**source: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        **source, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, model_max_length=MAX_TOKENS
    )


def _vocabulary(seed: int) -> list[tuple[str, float]]:
    """Words by falling frequency with their log probabilities, then endings and characters."""
    rng = np.random.default_rng(seed)
    scenes = sample_scenes(rng, CAPTIONS, "all")
    text = " ".join(say(scene, rng) for scene in scenes for say in (caption, sequel))
    counts = Counter(text.lower().replace(",", " ,").split())
    total = counts.total()
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    words = [
        (word if word == "," else SPACE + word, math.log(count / total)) for word, count in ranked
    ]
    return [
        *((special, 0.0) for special in (PAD, END, UNKNOWN)),
        *words,
        (SPACE, RARE + 1),
        *((ending, RARE + 2) for ending in ENDINGS),
        *((character, RARE) for character in CHARACTERS),
    ]
