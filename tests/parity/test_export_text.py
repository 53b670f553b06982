"""The rewritten UMT5 against transformers', in PyTorch; and its tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mutoscope.errors import CheckpointError
from mutoscope.export.checkpoint import Checkpoint
from mutoscope.export.tokenizer import write_tokenizer

torch = pytest.importorskip(
    "torch", reason="parity tests need the export extra: pip install -e '.[export]'"
)
transformers = pytest.importorskip("transformers", reason="parity tests need the export extra")
wan = pytest.importorskip("mutoscope.export.families.wan.graphs")

pytestmark = pytest.mark.parity

TOLERANCE = 2e-6
"""The same sums in another order, in a few layers."""

VARIANTS: dict[str, dict[str, Any]] = {
    "gated gelu": {},
    "plain relu": {"feed_forward_proj": "relu"},
    "short reach": {"relative_attention_max_distance": 20, "relative_attention_num_buckets": 8},
}


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda name: name.replace(" ", "-"))
def pair(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    make_checkpoint: Callable[..., Path],
    load_module: Callable[[Any], Any],
) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("text")
    make_checkpoint(folder, text_encoder=VARIANTS[request.param])
    ours = load_module(wan.text_encoder_graph(Checkpoint.open(folder), "fp32"))
    theirs = transformers.UMT5EncoderModel.from_pretrained(
        folder / "text_encoder", attn_implementation="eager"
    )
    return ours, theirs.eval()


@pytest.mark.parametrize(("batch", "tokens", "shown"), [(1, 1, 1), (2, 40, 17), (1, 512, 512)])
@torch.no_grad()
def test_equal_to_transformers(pair: tuple[Any, Any], batch: int, tokens: int, shown: int) -> None:
    ours, theirs = pair
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, theirs.config.vocab_size, (batch, tokens), generator=generator)
    mask = torch.ones_like(ids)
    mask[-1, shown:] = 0
    wanted = theirs(ids, mask).last_hidden_state[mask == 1].double()
    got = ours(ids, mask)[mask == 1].double()
    assert float((got - wanted).norm() / wanted.norm()) <= TOLERANCE


@torch.no_grad()
def test_padding_makes_no_difference(pair: tuple[Any, Any]) -> None:
    ours, _ = pair
    ids = torch.tensor([[5, 6, 7, 1, 0, 0]])
    padded = ours(ids, (ids > 0).long())[:, :4]
    bare = ours(ids[:, :4], torch.ones_like(ids[:, :4]))
    torch.testing.assert_close(padded, bare, rtol=0, atol=1e-5)  # of values around one


@torch.no_grad()
def test_half_precision(tiny_checkpoint: Path, load_module: Callable[[Any], Any]) -> None:
    """PyTorch rounds every operation that is fp16 to it, by 5e-4 at most."""
    checkpoint = Checkpoint.open(tiny_checkpoint)
    full, half = (load_module(wan.text_encoder_graph(checkpoint, p)) for p in ("fp32", "fp16"))
    ids = torch.tensor([[5, 6, 7, 1]])
    wanted = full(ids, torch.ones_like(ids)).double()
    got = half(ids, torch.ones_like(ids)).double()
    assert 0 < float((got - wanted).norm() / wanted.norm()) <= 1e-3


def test_tokenizer_json_is_copied(tiny_checkpoint: Path, tmp_path: Path) -> None:
    write_tokenizer(Checkpoint.open(tiny_checkpoint), tmp_path)
    source = tiny_checkpoint / "tokenizer" / "tokenizer.json"
    assert (tmp_path / "tokenizer.json").read_bytes() == source.read_bytes()


def test_a_sentencepiece_model_is_converted(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import shutil

    import sentencepiece
    from tokenizers import Tokenizer

    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoint, folder)
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    sentences = ["a red circle moves left", "a green square moves right", "on a black ground"] * 9
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_prefix=str(folder / "tokenizer" / "spiece"),
        vocab_size=28,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    write_tokenizer(Checkpoint.open(folder), tmp_path)
    original = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer" / "spiece.model"))
    converted = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("a red square", "green ground", "a zebra"):
        assert converted.encode(text).ids == [*original.encode(text), 1]


def test_a_tokenizer_that_is_missing_or_damaged(tiny_checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="has a tokenizer that cannot be read"):
        write_tokenizer(Checkpoint.open(folder), tmp_path)
    (folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError) as error:
        write_tokenizer(Checkpoint.open(folder), tmp_path)
    assert str(error.value) == (
        f"{folder}/tokenizer has neither tokenizer.json nor spiece.model; "
        "download the checkpoint again"
    )
