"""Cleaning, tokenizing and cutting prompts."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from mutoscope.engine import Bundle
from mutoscope.errors import BundleError
from mutoscope.runtime.text import Tokenizer, clean


@pytest.fixture
def tokenizer(bundle: Bundle) -> Tokenizer:
    return Tokenizer(bundle.file("tokenizer.json"), max_tokens=6)


@pytest.mark.parametrize(
    ("prompt", "cleaned"),
    [
        ("  a\t red \n\n circle ", "a red circle"),
        ("caf&amp;eacute; &lt;3", "café <3"),
        ("schÃ¶n", "schön"),
        ("\u201cquoted\u201d", '"quoted"'),
        ("&nbsp;", ""),
    ],
)
def test_clean(prompt: str, cleaned: str) -> None:
    assert clean(prompt) == cleaned


def test_ids_end_with_eos(tokenizer: Tokenizer) -> None:
    tokens = tokenizer("A red CIRCLE")
    assert tokens.ids.tolist() == [3, 4, 6, 1]
    assert tokens.ids.dtype == "int64"
    assert tokens.cut == ""


def test_long_prompt_is_cut_and_says_so(
    tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        tokens = tokenizer("a red circle moves up  a Blue square")
    assert tokens.ids.tolist() == [3, 4, 6, 8, 9, 1]
    assert tokens.cut == "a Blue square"
    assert caplog.messages == [
        "the prompt is longer than 6 tokens; this part is ignored: 'a Blue square'"
    ]


def test_not_a_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(BundleError, match="tokenizer.json is not a tokenizer"):
        Tokenizer(path, 8)
