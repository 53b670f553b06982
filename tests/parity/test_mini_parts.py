"""Parts of the embedded model's recipe against the models they stand for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REASON = "parity tests need the export extra: pip install -e '.[export]'"
torch = pytest.importorskip("torch", reason=REASON)
diffusers = pytest.importorskip("diffusers", reason=REASON)

pytestmark = pytest.mark.parity
DATA = Path(__file__).parents[1] / "data"

VAE = {
    "base_dim": 4,
    "z_dim": 16,
    "dim_mult": [1, 2, 4],
    "num_res_blocks": 1,
    "temperal_downsample": [True, True],
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
}


def test_one_padding_token_with_a_bias_stands_for_all_of_them() -> None:
    from mutoscope.export.mini.denoiser import make_denoiser
    from mutoscope.export.mini.padding import make_paddable, padded

    model = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "freq_dim": 16,
        "ffn_dim": 32,
        "num_layers": 2,
        "cross_attn_norm": True,
    }
    denoiser = make_denoiser(model, 8, seed=0).eval()
    torch.nn.init.normal_(denoiser.proj_out.weight)
    processor = make_paddable(denoiser)
    random = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 16, 2, 4, 4, generator=random)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    states = torch.randn(2, 5, 8, generator=random) * mask[..., None]
    time = torch.tensor([300.0, 900.0])
    whole = torch.cat([states, torch.zeros(2, 59, 8)], 1)
    with torch.no_grad():
        wanted = denoiser(latents, time, whole, return_dict=False)[0]
        with padded(processor, mask, torch.tensor([64, 64])):
            found = denoiser(latents, time, states, return_dict=False)[0]
        bare = denoiser(latents, time, states, return_dict=False)[0]
    # float32 sums in another order; without the bias the two differ by far more
    assert (found - wanted).abs().max() < 1e-4
    assert (bare - wanted).abs().max() > 1e-2


@pytest.mark.parametrize("masked", [False, True])
def test_attention_and_its_gradients_are_pytorchs(masked: bool) -> None:
    from mutoscope.export.mini.attention import CpuAttention

    random = torch.Generator().manual_seed(0)
    sizes = (2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8)
    bias = torch.randn(2, 1, 1, 7, generator=random) if masked else None
    if bias is not None:
        bias[0, 0, 0, 3] = -torch.inf
    values = [torch.randn(size, generator=random) for size in sizes]

    def attend() -> list[Any]:
        parts = [value.clone().requires_grad_() for value in values]
        made = torch.nn.functional.scaled_dot_product_attention(*parts, attn_mask=bias)
        made.square().sum().backward()
        return [made, *(part.grad for part in parts)]

    wanted = attend()
    with CpuAttention():
        found = attend()
    assert "_Attention" in type(found[0].grad_fn).__name__
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("frames", [1, 5, 13])
def test_the_whole_clip_in_one_pass_is_diffusers_own_pieces(residual: bool, frames: int) -> None:
    from mutoscope.export.mini.vae import make_vae
    from mutoscope.export.mini.whole import decode_whole, encode_whole, make_whole

    model = {**VAE, "dim_mult": [1, 2, 2], "is_residual": residual}
    theirs, ours = make_vae(model, seed=0), make_whole(make_vae(model, seed=0))
    random = torch.Generator().manual_seed(1)
    video = torch.randn(2, 3, frames, 16, 32, generator=random)
    with torch.no_grad():
        mean, log_variance = encode_whole(ours, video)
        wanted = theirs.encode(video).latent_dist
        latents = 3 * torch.randn(mean.shape, generator=random)
        made = decode_whole(ours, latents)
        shown = theirs.decode(latents).sample
    assert made.shape == video.shape
    assert frames == 1 or made.abs().max() > 1  # not clamped
    assert (mean - wanted.mean).abs().max() < 1e-5
    assert (log_variance - wanted.logvar).abs().max() < 1e-5
    assert (made.clamp(-1, 1) - shown).abs().max() < 1e-5


def test_objects_are_told_from_backgrounds_by_colour() -> None:
    from mutoscope.bench.adherence import FULL, Object, Scene
    from mutoscope.export.mini.clips import foreground, latent_foreground
    from mutoscope.export.mini.world import render

    for background in FULL.backgrounds:
        for colour in FULL.colours:
            scene = Scene((Object("circle", colour, "right"),), background)
            clip = torch.from_numpy(render(scene, 0, 64, 64, 5)[None])
            mask = foreground(clip)
            # a medium circle's radius is 9.5 to 12.5 pixels here, and its edge counts
            assert 9**2 * np.pi < mask[0, 0, 2].sum() < 14.5**2 * np.pi, (background, colour)
            assert latent_foreground(mask, 8).shape == (1, 1, 2, 8, 8)


def test_latents_are_foreground_where_any_of_their_pixels_is() -> None:
    from mutoscope.export.mini.clips import latent_foreground

    mask = torch.zeros(1, 1, 9, 16, 16)
    mask[0, 0, 8, 15, 0] = 1
    assert latent_foreground(mask, 8).nonzero().tolist() == [[0, 0, 2, 1, 0]]
    assert latent_foreground(mask[:, :, :1], 8).shape == (1, 1, 1, 2, 2)


def test_words_of_the_world_are_single_tokens(tmp_path: Path) -> None:
    from mutoscope.export.mini.tokenizer import load_tokenizer, make_tokenizer

    tokenizer = make_tokenizer()
    assert tokenizer.tokenize("A Crimson hot-air balloon, rotating") == [
        "▁a", "▁crimson", "▁hot-air", "▁balloon", ",", "▁rotating"
    ]  # fmt: skip
    ids = tokenizer("qzx").input_ids
    assert tokenizer.unk_token_id not in ids
    assert ids[-1] == tokenizer.eos_token_id == 1
    assert tokenizer("").input_ids == [1]
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again("a red ball").input_ids == tokenizer("a red ball").input_ids


def test_captions_are_never_cut() -> None:
    from mutoscope.export.mini.captions import caption
    from mutoscope.export.mini.scenes import sample_scenes
    from mutoscope.export.mini.text_encoder import TEXT_TOKENS, tokenize
    from mutoscope.export.mini.tokenizer import make_tokenizer

    rng = np.random.default_rng(5)
    texts = [caption(scene, rng) for scene in sample_scenes(rng, 2000, "all")]
    _, mask = tokenize(make_tokenizer(), texts)
    # one zero at least is needed behind each, see `padding`
    assert mask.sum(1).max() < TEXT_TOKENS


def test_captions_and_labels_say_the_same() -> None:
    from mutoscope.bench.adherence import Object, Scene
    from mutoscope.export.mini.text_encoder import ATTRIBUTES, labels

    scene = Scene((Object("fish", "pink", "up"), Object("car", "cyan")), "sea", "left of")
    told = {
        name: words[i] for (name, words), i in zip(ATTRIBUTES.items(), labels(scene), strict=True)
    }
    assert told == {
        "shape": "fish",
        "colour": "pink",
        "motion": "up",
        "size": "medium",
        "background": "sea",
        "camera": "static",
        "relation": "left of",
        "other shape": "car",
        "other colour": "cyan",
    }


def test_noise_levels_are_within_bounds_and_shifted() -> None:
    from mutoscope.export.mini.flow import noised, sample_sigmas, shifted

    assert shifted(torch.tensor([0.0, 0.5, 1.0]), 3.0).tolist() == [0.0, 0.75, 1.0]
    sigmas = sample_sigmas(4000, torch.Generator().manual_seed(0), 2.0)
    assert sigmas.min() > 0
    assert sigmas.max() < 1
    # both halves are symmetric about 1/2, so the median is 1/2 shifted; 4000 draws: within 0.02
    assert abs(sigmas.median().item() - 2 / 3) < 0.02
    latents, noise = torch.ones(2, 1, 2, 1, 1), torch.zeros(2, 1, 2, 1, 1)
    levels = torch.tensor([[0.0, 0.25], [0.5, 1.0]])
    assert noised(latents, levels, noise).flatten().tolist() == [1.0, 0.75, 0.5, 0.0]


def test_shapes_of_shards_follow_their_shares() -> None:
    from mutoscope.export.mini.latents import Shards
    from mutoscope.export.mini.recipe import SHAPES

    shards = Shards(SHAPES, 64, 0)
    names = [shards.shape(i).name for i in range(100)]
    assert names[0] == SHAPES[0].name
    for shape in SHAPES:
        assert abs(names.count(shape.name) - 100 * shape.share) <= 1


def test_images_are_a_share_of_the_batches() -> None:
    """Four in five where that is asked for, among clips of one size and of another."""
    from mutoscope.export.mini.denoiser import CaptionedLatents
    from mutoscope.export.mini.latents import Latents
    from mutoscope.export.mini.recipe import ClipShape

    nothing = torch.empty(0)
    shapes = (ClipShape(96, 96, 17, 0.6), ClipShape(64, 96, 17, 0.2), ClipShape(96, 96, 1, 0.2))
    latents = [Latents(shape, nothing, nothing, []) for shape in shapes]

    def shares(chosen: list[Latents], images: float | None) -> list[float]:
        data = CaptionedLatents(chosen, None, 24, 0.1, 0.25, seed=0, images=images)
        return [round(float(share), 6) for share in data._shares()]

    assert shares(latents, None) == [0.6, 0.2, 0.2]
    assert shares(latents, 0.8) == [0.15, 0.05, 0.8]
    assert shares(latents[:2], 0.8) == [0.75, 0.25]
    assert shares(latents[2:], 0.8) == [1.0]


def test_hard_words_are_shown_oftener() -> None:
    """As often as the hardest of a scene's words says; scenes without one count once."""
    from mutoscope.bench.adherence.scene import Object, Scene
    from mutoscope.export.mini.denoiser import CaptionedLatents
    from mutoscope.export.mini.latents import Latents
    from mutoscope.export.mini.recipe import SHAPES

    scenes = [
        Scene((Object("circle", "red"),)),
        Scene((Object("star", "red", "spin"),)),
        Scene((Object("circle", "red"), Object("sun", "blue")), relation="above"),
        Scene((Object("circle", "red"),), "sea", camera="pan left"),
    ]
    latents = [Latents(SHAPES[0], torch.empty(0), torch.empty(0), scenes)]
    hard = {"sun": 3.0, "star": 3.0, "spin": 1.5, "pan left": 5.0}
    plain = CaptionedLatents(latents, None, 24, 0.1, 0.25, seed=0)
    assert plain._chances[0].tolist() == [0.25] * 4
    chances = replace(plain, emphasis=hard)._chances[0]
    assert (chances * 12).tolist() == pytest.approx([1, 3, 3, 5])


def test_a_channel_counts_as_it_moves_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels of which one channel gives nothing, one little, and one nearly all."""
    from types import SimpleNamespace

    from mutoscope.export.mini import latents

    gains = torch.tensor([0.0, 0.5, 2.0])[:, None, None, None]
    monkeypatch.setattr(latents, "decode_whole", lambda vae, x: (gains * x).sum(1))
    vae = SimpleNamespace(device=torch.device("cpu"))
    means = torch.randn(4, 3, 2, 5, 5, generator=torch.Generator().manual_seed(1))
    nothing, little, most = latents._importance(vae, [1.0, 1.0, 2.0], means)
    assert nothing == little == latents.LEAST  # 0 and .045 of the mean
    assert most == pytest.approx(3 * 16 / 16.25, abs=1e-3)


def test_crops_hold_an_object_most_often() -> None:
    from mutoscope.export.mini.clips import Crops, foreground
    from mutoscope.export.mini.recipe import SHAPES

    crops: Any = Crops(SHAPES, 40, 48, 5, seed=0)
    clips = crops[3]["clips"]
    assert (clips.shape, clips.dtype) == ((40, 5, 48, 48, 3), torch.uint8)
    assert torch.equal(clips, crops[3]["clips"])
    assert not torch.equal(clips, crops[4]["clips"])
    seen = foreground(clips).amax((1, 2, 3, 4)).mean()
    assert seen > 0.8


def test_psnr_of_a_known_error() -> None:
    from mutoscope.export.mini.vae import psnr

    clips = np.full((2, 1, 4, 4, 3), 100, np.uint8)
    # an error of 1 everywhere is 20 log10(255) dB
    assert psnr(clips, clips + 1) == pytest.approx([48.1308, 48.1308], abs=1e-4)


def test_the_trained_autoencoder_rebuilds_held_out_clips() -> None:
    from mutoscope.export.mini.clips import held_out_clips
    from mutoscope.export.mini.recipe import SHAPES
    from mutoscope.export.mini.vae import psnr, reconstruct

    vae = diffusers.AutoencoderKLWan.from_pretrained(DATA / "mini-wan" / "vae")
    clips = held_out_clips(6, SHAPES[0])[0]
    # 28.9 dB over 48 clips (docs/training.md); these six differ by 2 dB either way
    assert psnr(clips, reconstruct(vae, clips)).mean() > 26
