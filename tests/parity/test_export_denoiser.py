"""The rewritten DiT against diffusers', in PyTorch: what is exported, without the export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mutoscope.export.checkpoint import Checkpoint

torch = pytest.importorskip(
    "torch", reason="parity tests need the export extra: pip install -e '.[export]'"
)
diffusers = pytest.importorskip("diffusers", reason="parity tests need the export extra")
wan = pytest.importorskip("mutoscope.export.families.wan.graphs")

pytestmark = pytest.mark.parity

TOLERANCE = 2e-6
"""The same sums in another order: a few roundings of fp32 (6e-8) in each of some tens of layers."""

VARIANTS: dict[str, dict[str, Any]] = {
    "as published": {},
    "no norm before cross-attention": {"cross_attn_norm": False},
    "no qk norm named": {"qk_norm": None},
    "one head, odd thirds": {"num_attention_heads": 1, "attention_head_dim": 22},
    "many small heads": {"num_attention_heads": 5, "attention_head_dim": 6, "num_layers": 1},
    "patches of one": {"patch_size": (1, 1, 1)},
    "patches of two frames": {"patch_size": (2, 1, 2)},
    "other eps": {"eps": 1e-3, "ffn_dim": 20, "freq_dim": 8},
}
SHAPES = [(1, 1, 1, 1, 1), (1, 3, 4, 2, 512), (2, 2, 5, 7, 20)]
"""Batch, frames, height and width in patches, tokens of text."""


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda name: name.replace(" ", "-"))
def pair(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    make_checkpoint: Callable[..., Path],
    load_module: Callable[[Any], Any],
) -> tuple[Any, Any]:
    """Ours and diffusers' of one variant."""
    folder = tmp_path_factory.mktemp("variant")
    make_checkpoint(folder, transformer=VARIANTS[request.param])
    ours = load_module(wan.denoiser_graph(Checkpoint.open(folder), "fp32"))
    theirs = diffusers.WanTransformer3DModel.from_pretrained(folder / "transformer").eval()
    return ours, theirs


def inputs(model: Any, shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
    batch, *patches, tokens = shape
    sizes = [n * p for n, p in zip(patches, model.config.patch_size, strict=True)]
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(batch, model.config.in_channels, *sizes, generator=generator),
        torch.rand(batch, generator=generator) * 1000,
        torch.randn(batch, tokens, model.config.text_dim, generator=generator),
    )


def relative_error(got: Any, wanted: Any) -> float:
    return float((got.double() - wanted.double()).norm() / wanted.double().norm())


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_equal_to_diffusers(pair: tuple[Any, Any], shape: tuple[int, ...]) -> None:
    ours, theirs = pair
    feeds = inputs(theirs, shape)
    wanted = theirs(*feeds, return_dict=False)[0]
    got = ours(*feeds)
    assert got.shape == wanted.shape
    assert relative_error(got, wanted) <= TOLERANCE


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_a_timestep_for_each_frame(
    tmp_path: Path,
    make_checkpoint: Callable[..., Path],
    load_module: Callable[[Any], Any],
    shape: tuple[int, ...],
) -> None:
    """diffusers is told of each token, and all those of a frame have the same."""
    make_checkpoint(tmp_path / "wan", expand_timesteps=True)
    ours = load_module(wan.denoiser_graph(Checkpoint.open(tmp_path / "wan"), "fp32"))
    theirs = diffusers.WanTransformer3DModel.from_pretrained(tmp_path / "wan/transformer").eval()
    hidden, _, text = inputs(theirs, shape)
    batch, frames, height, width, _ = shape
    timestep = torch.rand(batch, frames, generator=torch.Generator().manual_seed(1)) * 1000
    timestep[0, 0] = 0
    wanted = theirs(hidden, timestep.repeat_interleave(height * width, 1), text, return_dict=False)
    assert relative_error(ours(hidden, timestep, text), wanted[0]) <= TOLERANCE
    if frames > 1:
        first = ours(hidden, timestep[:, :1].expand(-1, frames), text)
        assert relative_error(first, wanted[0]) > 1e-3


def test_rope_on_halves_is_rope_on_pairs() -> None:
    heads, head_dim, patches = 3, 10, 7
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(heads * head_dim, 4, generator=generator)
    hidden = torch.randn(2, patches, 4, generator=generator)
    angles = torch.randn(patches, head_dim // 2, generator=generator)
    cos, sin = (f(angles)[None, :, None] for f in (torch.cos, torch.sin))

    pairs = (hidden @ weight.T).unflatten(-1, (heads, -1, 2))
    wanted = torch.stack(
        [
            pairs[..., 0] * cos - pairs[..., 1] * sin,
            pairs[..., 0] * sin + pairs[..., 1] * cos,
        ],
        dim=-1,
    )
    permuted = wan.denoiser.rotary_halves("blocks.0.attn1.to_q.weight", weight, head_dim)
    got = wan.denoiser.rotate((hidden @ permuted.T).unflatten(-1, (heads, -1)), cos, sin)
    assert torch.equal(got, torch.cat([wanted[..., 0], wanted[..., 1]], dim=-1))


@pytest.mark.parametrize(
    "name", ["blocks.0.attn2.to_q.weight", "blocks.0.attn1.to_v.weight", "blocks.0.ffn.net.2.bias"]
)
def test_weights_without_rope_stay_as_they_are(name: str) -> None:
    weight = torch.arange(12.0)
    assert wan.denoiser.rotary_halves(name, weight, 6) is weight


@torch.no_grad()
def test_half_precision_is_closer_than_diffusers_own(
    tiny_checkpoint: Path, load_module: Callable[[Any], Any]
) -> None:
    """PyTorch rounds every operation to fp16 here, as a GPU does."""
    checkpoint = Checkpoint.open(tiny_checkpoint)
    full, half = (load_module(wan.denoiser_graph(checkpoint, p)) for p in ("fp32", "fp16"))
    theirs = diffusers.WanTransformer3DModel.from_pretrained(
        tiny_checkpoint / "transformer", dtype=torch.float16
    ).eval()
    feeds = inputs(theirs, (1, 3, 4, 5, 77))
    wanted, error = full(*feeds), {}
    error["ours"] = relative_error(half(*feeds), wanted)
    hidden, timestep, text = feeds
    got = theirs(hidden.half(), timestep, text.half(), return_dict=False)[0]
    error["theirs"] = relative_error(got, wanted)
    assert error["ours"] <= 1e-3  # two roundings to fp16
    assert error["ours"] <= 0.9 * error["theirs"]
