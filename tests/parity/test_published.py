"""Checkpoints that stand in for published ones: diffusers reads them, and they can be exported."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from mutoscope.bench.wan_layout import TINY, TextLayout
from mutoscope.errors import UserError

pytest.importorskip(
    "torch", reason="parity tests need the export extra: pip install -e '.[export]'"
)
pytest.importorskip("diffusers", reason="parity tests need the export extra")

import diffusers
from mutoscope.bench.peers import published

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # diffusers' own, of NumPy's
]
TEXT = TextLayout(16, num_heads=2, d_kv=8, d_ff=32, num_layers=1, vocab_size=64)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "SHARD", 20_000)


@pytest.mark.parametrize("sparse", [False, True])
def test_diffusers_reads_it(tmp_path: Path, sparse: bool) -> None:
    from transformers import UMT5EncoderModel

    folder = tmp_path / "checkpoint"
    published.write(folder, TINY, TEXT, sparse=sparse, vae_base=4)
    assert len(list((folder / "vae").glob("*.safetensors"))) > 1
    models = [
        diffusers.WanTransformer3DModel.from_pretrained(folder / "transformer"),
        UMT5EncoderModel.from_pretrained(folder / "text_encoder"),
        diffusers.AutoencoderKLWan.from_pretrained(folder / "vae"),
    ]
    for model in models:
        weights = {name: p.float() for name, p in model.named_parameters() if "norm" not in name}
        assert weights
        for name, weight in weights.items():
            sizes = weight.abs()
            assert sizes.max() <= 1 / 32, name
            assert sizes.min() >= (0 if sparse else 1 / 64), name
            assert not sparse or sizes.max() == 0


def test_it_can_be_exported(tmp_path: Path) -> None:
    from mutoscope.export.checkpoint import Checkpoint
    from mutoscope.export.exporter import Options, make_plan

    published.write(tmp_path / "checkpoint", TINY, TEXT, sparse=True, vae_base=4)
    plan = make_plan(Checkpoint.open(tmp_path / "checkpoint"), tmp_path / "bundle", Options())
    assert {"denoiser", "text_encoder", "vae_decoder_next"} <= {g.name for g in plan.graphs}


def test_mistakes(tmp_path: Path) -> None:
    done = CliRunner().invoke(published.main, ["wan2.1-t2v-13b", str(tmp_path / "new")])
    assert done.exit_code == 2
    assert "unknown layout 'wan2.1-t2v-13b'; did you mean 'wan2.1-t2v-1.3b'?" in done.output
    with pytest.raises(UserError, match="is there already"):
        published.write(tmp_path, TINY, TEXT, sparse=True)
