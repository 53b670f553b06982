"""From clips to the axes of graphs."""

from __future__ import annotations

import msgspec
import pytest
from mutoscope.engine.manifest import GraphSpec, Manifest, TensorSpec
from mutoscope.engine.profiles import LatentSize, profile
from mutoscope.errors import MutoscopeError

SAMPLE = ("batch", 4, "latent_frames", "latent_height", "latent_width")
SIZES = [LatentSize(5, 8, 12), LatentSize(1, 10, 6)]


def graph(*shapes: tuple[int | str, ...]) -> GraphSpec:
    tensors = [
        TensorSpec(name=f"input{i}", dtype="float32", shape=shape) for i, shape in enumerate(shapes)
    ]
    return GraphSpec(file="a.onnx", precision="fp32", inputs=tuple(tensors), outputs=())


@pytest.fixture
def manifest(bundle_manifest: Manifest) -> Manifest:
    graphs = {
        "denoiser": graph(SAMPLE, ("batch",), ("batch", "tokens", 6)),
        "text_encoder": graph(("batch", "tokens")),
        "vae_encoder_next": graph(("batch", 3, 4, "8*latent_height", "8*latent_width")),
        "strange": graph(("batch", "heigth")),
    }
    return msgspec.structs.replace(bundle_manifest, graphs=graphs)


def test_the_denoiser_takes_both_predictions_and_padded_prompts(manifest: Manifest) -> None:
    assert profile(manifest, "denoiser", SIZES) == {
        "batch": (1, 2, 2),
        "latent_frames": (1, 5, 5),
        "latent_height": (8, 8, 10),
        "latent_width": (6, 12, 12),
        "tokens": (8, 8, 8),
    }


def test_predictions_one_after_the_other_take_no_batch(manifest: Manifest) -> None:
    assert profile(manifest, "denoiser", SIZES, batched=False)["batch"] == (1, 1, 1)


def test_a_second_denoiser_is_as_the_first(manifest: Manifest) -> None:
    defaults = msgspec.structs.replace(manifest.defaults, guidance_scale=1, guidance_scale_2=3)
    two = msgspec.structs.replace(
        manifest,
        graphs={**manifest.graphs, "denoiser_2": manifest.graphs["denoiser"]},
        defaults=defaults,
    )
    first, second = (profile(two, name, SIZES) for name in ("denoiser", "denoiser_2"))
    assert first == second
    assert first["batch"] == (1, 2, 2)


def test_without_guidance_there_is_one_prediction(manifest: Manifest) -> None:
    defaults = msgspec.structs.replace(manifest.defaults, guidance_scale=1)
    plain = msgspec.structs.replace(manifest, defaults=defaults)
    assert profile(plain, "denoiser", SIZES)["batch"] == (1, 1, 1)


def test_the_text_encoder_takes_prompts_of_any_length(manifest: Manifest) -> None:
    assert profile(manifest, "text_encoder", SIZES) == {"batch": (1, 1, 1), "tokens": (1, 8, 8)}


def test_multiples_count_as_the_axis_itself(manifest: Manifest) -> None:
    assert profile(manifest, "vae_encoder_next", SIZES[:1]) == {
        "batch": (1, 1, 1),
        "latent_height": (8, 8, 8),
        "latent_width": (12, 12, 12),
    }


def test_an_axis_of_an_unknown_name_is_told(manifest: Manifest) -> None:
    with pytest.raises(MutoscopeError, match="strange has an axis 'heigth', which no profile is"):
        profile(manifest, "strange", SIZES)


def test_the_default_is_the_bundles_default_request(manifest: Manifest) -> None:
    assert LatentSize.default(manifest) == LatentSize(frames=2, height=4, width=4)
