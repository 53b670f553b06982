"""Checkpoints that stand in for published ones: diffusers reads them, and they can be exported."""

from __future__ import annotations

from dataclasses import replace
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
SMALL = published.Published(TINY, vae={"base_dim": 4})
TEXT = TextLayout(16, num_heads=2, d_kv=8, d_ff=32, num_layers=1, vocab_size=64)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "SHARD", 20_000)


@pytest.mark.parametrize("sparse", [False, True])
def test_diffusers_reads_it(tmp_path: Path, sparse: bool) -> None:
    from transformers import UMT5EncoderModel

    folder = tmp_path / "checkpoint"
    published.write(folder, SMALL, TEXT, sparse=sparse)
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

    published.write(tmp_path / "checkpoint", SMALL, TEXT, sparse=True)
    plan = make_plan(Checkpoint.open(tmp_path / "checkpoint"), tmp_path / "bundle", Options())
    assert {"denoiser", "text_encoder", "vae_decoder_next"} <= {g.name for g in plan.graphs}


@pytest.mark.parametrize(
    ("name", "image", "own"),
    [
        ("wan2.1-t2v-14b", None, set()),
        ("wan2.1-i2v-14b", "channels", {"image_encoder", "vae_encoder_next"}),
        ("wan2.2-t2v-a14b", None, {"denoiser_2"}),
        ("wan2.2-i2v-a14b", "channels", {"denoiser_2", "vae_encoder_next"}),
        ("wan2.2-ti2v-5b", "first_frame", {"vae_encoder_first"}),
    ],
)
def test_every_family(tmp_path: Path, name: str, image: str | None, own: set[str]) -> None:
    from mutoscope.export.checkpoint import Checkpoint
    from mutoscope.export.exporter import Options, make_plan

    made = published.PUBLISHED[name]
    narrow = {"base_dim": 4, "decoder_base_dim": 4} if made.vae else {"base_dim": 4}
    small = replace(made, layout=TINY, vae={**made.vae, **narrow})
    if made.image_encoder is not None:
        clip = {"hidden_size": 20, "intermediate_size": 36, "num_hidden_layers": 3}
        fitting = {"image_dim": 20, "added_kv_proj_dim": 24}
        small = replace(
            small,
            image_encoder={**made.image_encoder, **clip, "num_attention_heads": 2},
            transformer={**made.transformer, **fitting},
        )
    published.write(tmp_path / "checkpoint", small, TEXT, sparse=True)
    plan = make_plan(Checkpoint.open(tmp_path / "checkpoint"), tmp_path / "bundle", Options())
    graphs = {graph.name for graph in plan.graphs}
    assert own <= graphs
    assert ("denoiser_2" in graphs) == ("a14b" in name)
    assert plan.facts.denoiser.image == image


def test_mistakes(tmp_path: Path) -> None:
    done = CliRunner().invoke(published.main, ["wan2.1-t2v-13b", str(tmp_path / "new")])
    assert done.exit_code == 2
    assert "unknown layout 'wan2.1-t2v-13b'; did you mean 'wan2.1-t2v-1.3b'?" in done.output
    with pytest.raises(UserError, match="is there already"):
        published.write(tmp_path, SMALL, TEXT, sparse=True)
