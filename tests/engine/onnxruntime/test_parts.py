"""A graph that is larger than the memory, opened in parts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import wide_encoder
from mutoscope.engine import Bundle, EngineOptions
from mutoscope.engine.backends.onnxruntime import open_session, parts
from mutoscope.engine.backends.onnxruntime.parts import PartsSession, cut, too_large, weights_of
from mutoscope.engine.manifest import TEXT_ENCODER
from mutoscope.engine.onnx_file import OnnxFile
from mutoscope.errors import MutoscopeError
from numpy.typing import NDArray
from quantized import EMBEDDED
from wide_encoder import FEEDS

pytest.importorskip("onnxruntime", reason="the cpu extra is not installed")

BLOCK = 4 * (4 * 128 * 128 + 3 * 128 * 256)
"""Bytes of a block's matrices, held in fp32."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine for which the embedded text encoder is too large."""
    monkeypatch.setattr(parts, "MOST", 0)
    monkeypatch.setattr(parts, "PART", BLOCK)


def run() -> tuple[int, NDArray[np.float32]]:
    """How many parts, and the embeddings."""
    with open_session(Bundle.open(EMBEDDED), TEXT_ENCODER, EngineOptions(1)) as session:
        (output,) = session.run(FEEDS).values()
        count = len(session._parts) if isinstance(session, PartsSession) else 0
        return count, np.array(output)


@pytest.mark.parametrize("most", [1, BLOCK // 2, BLOCK, 100 * BLOCK])
def test_every_weight_is_in_one_part_and_no_part_has_too_many(most: int) -> None:
    model = OnnxFile(Bundle.open(EMBEDDED), TEXT_ENCODER).model
    weights, found = weights_of(model), cut(model, most)
    held = [{t.name for t in part.graph.initializer if weights[t.name]} for part in found]
    matrices = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2}
    assert sum(len(names & matrices) for names in held) == len(matrices)
    assert (len(found) == 1) is (most > 10 * BLOCK)
    for names in held:
        assert len(names) == 1 or sum(weights[name] for name in names) <= most


def test_parts_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    count, whole = run()
    assert count == 0
    monkeypatch.setattr(parts, "MOST", 0)
    for most, wanted in ((1, 61), (BLOCK // 2, 8), (BLOCK, 4)):
        monkeypatch.setattr(parts, "PART", most)
        count, output = run()
        assert count == wanted
        np.testing.assert_array_equal(output, whole)


@pytest.mark.usefixtures("small")
def test_a_closed_one_says_so_and_another_prompt_goes_through_the_same_session() -> None:
    bundle = Bundle.open(EMBEDDED)
    with open_session(bundle, TEXT_ENCODER, EngineOptions(1)) as session:
        assert isinstance(session, PartsSession)
        for ids in ([[5, 9]], [[7, 8, 9]]):
            feeds = {"input_ids": np.array(ids), "attention_mask": np.ones_like(np.array(ids))}
            assert session.run(feeds)["prompt_embeds"].shape == (1, len(ids[0]), 128)
    with pytest.raises(MutoscopeError, match=r"^text_encoder: the session is closed$"):
        session.run(FEEDS)


def test_only_what_the_machine_has_no_memory_for_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.open(EMBEDDED)
    weights = sum(weights_of(OnnxFile(bundle, TEXT_ENCODER).model).values())
    for memory, wanted in ((weights / parts.MOST - 1, True), (weights / parts.MOST + 1, False)):
        monkeypatch.setattr(parts, "machine_memory", lambda memory=memory: memory)
        assert too_large(bundle, TEXT_ENCODER) is wanted


def test_it_takes_less_than_half_of_the_memory_with_a_ninth_open(tmp_path: Path) -> None:
    """Processes of their own: memory that was given back is counted where it was once."""
    weights = 4 * wide_encoder.widen(tmp_path / "wide", 65536)
    matrix = weights // 9
    command = [sys.executable, wide_encoder.__file__, str(tmp_path / "wide")]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    whole, cut_up = (
        int(subprocess.run([*command, *most], capture_output=True, check=True, env=paths).stdout)
        for most in ([], [str(matrix)])
    )
    assert whole > weights
    assert matrix < cut_up < whole / 2
