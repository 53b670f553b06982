"""Two experts: a tiny bundle of both against diffusers' `WanPipeline`, over the boundary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutoscope.engine import Bundle
from mutoscope.engine.backends.tensorrt.engines import build_engine, describe
from mutoscope.engine.backends.tensorrt.package import TENSORRT_RTX
from mutoscope.engine.profiles import LatentSize
from mutoscope.engine.store import EngineStore
from mutoscope.errors import UserError
from mutoscope.export import Options, export_bundle
from mutoscope.kernels.noise import standard_normal
from mutoscope.runtime import pipeline as pipelines
from mutoscope.runtime.pipeline import Pipeline

torch = pytest.importorskip(
    "torch", reason="parity tests need the export extra: pip install -e '.[export]'"
)
diffusers = pytest.importorskip("diffusers", reason="parity tests need the export extra")
safetensors = pytest.importorskip("safetensors.torch", reason="parity tests need the export extra")

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # diffusers' own, of NumPy's
]
PROMPT = "a red circle moves to the right"
BOUNDARY = 0.875
GRAPHS = ["text_encoder", "vae_decoder_first", "vae_decoder_next"]
DEFAULTS = ["width=64", "height=32", "frames=5", "steps=2", "fps=8"]
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
BOUND = 1e-4
"""Relative error of the latents: a few 1e-6 a prediction, and guidance and six steps add up."""
SLIGHT = 1 + 1e-6
"""diffusers leaves guidance out for both if the first scale is 1; this is 1 all the same."""


@pytest.fixture(scope="module")
def checkpoint(
    tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Path]
) -> Path:
    return make_checkpoint(
        tmp_path_factory.mktemp("experts") / "checkpoint",
        scheduler=diffusers.UniPCMultistepScheduler(flow_shift=3.0, **FLOW),
        boundary_ratio=BOUNDARY,
    )


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Path:
    target = checkpoint.parent / "bundle"
    export_bundle(checkpoint, target, Options(graphs=GRAPHS, defaults=DEFAULTS, verify=True))
    return target


@pytest.fixture
def reference(checkpoint: Path) -> Any:
    made = diffusers.WanPipeline.from_pretrained(checkpoint)
    made.set_progress_bar_config(disable=True)
    return made


def ours(pipe: Pipeline, **options: Any) -> np.ndarray:
    """The latents of a clip."""
    stream = pipe.stream(PROMPT, **request(options))
    return [step.latents for step in stream][-1]


def theirs(reference: Any, **options: Any) -> np.ndarray:
    """The same from diffusers."""
    given = request(options)
    name, shift = given["scheduler"], given["shift"]
    reference.scheduler = (
        diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
        if name == "euler"
        else diffusers.UniPCMultistepScheduler(flow_shift=shift, **FLOW)
    )
    return reference(
        prompt=PROMPT,
        width=given["width"],
        height=given["height"],
        num_frames=given["frames"],
        num_inference_steps=given["steps"],
        guidance_scale=given["guidance_scale"],
        guidance_scale_2=given.get("guidance_scale_2"),
        latents=torch.from_numpy(given["latents"]),
        output_type="latent",
    ).frames.numpy()


def request(options: dict[str, Any]) -> dict[str, Any]:
    given = {"width": 64, "height": 32, "frames": 9, "steps": 6, "guidance_scale": 4.0}
    given |= {"scheduler": "unipc", "shift": 3.0, **options}
    frames, height, width = (given["frames"] - 1) // 4 + 1, given["height"], given["width"]
    return {"latents": standard_normal(5, (1, 16, frames, height // 8, width // 8)), **given}


def relative_error(got: np.ndarray, wanted: np.ndarray) -> float:
    assert got.shape == wanted.shape
    return float(np.linalg.norm(got.astype(float) - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize(
    "options",
    [
        {"scheduler": "unipc"},
        {"scheduler": "euler"},
        {"guidance_scale_2": 2.0},
        {"scheduler": "euler", "guidance_scale_2": 1.0},
        {"guidance_scale": 1.0},
        {"width": 48, "height": 80, "frames": 1, "shift": 12.0, "steps": 8},
        {"frames": 5, "steps": 4, "shift": 1.0, "guidance_scale_2": 6.0},
    ],
    ids=["unipc", "euler", "two scales", "second alone", "no guidance", "tall", "few steps"],
)
def test_latents_are_the_references(
    pipe: Pipeline, reference: Any, options: dict[str, Any]
) -> None:
    assert relative_error(ours(pipe, **options), theirs(reference, **options)) <= BOUND


def test_the_second_is_guided_alone(pipe: Pipeline, reference: Any) -> None:
    got = ours(pipe, guidance_scale=1.0, guidance_scale_2=4.0)
    wanted = theirs(reference, guidance_scale=SLIGHT, guidance_scale_2=4.0)
    assert relative_error(got, wanted) <= BOUND


def test_one_prediction_at_a_time(
    pipe: Pipeline, reference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines, "fits_batched", lambda *_: False)
    options = {"guidance_scale_2": 2.0}
    assert relative_error(ours(pipe, **options), theirs(reference, **options)) <= BOUND


@pytest.mark.parametrize("boundary", [0.999, 0.5])
def test_another_boundary_makes_another_clip(
    pipe: Pipeline, reference: Any, boundary: float
) -> None:
    reference.register_to_config(boundary_ratio=boundary)
    assert relative_error(ours(pipe), theirs(reference)) >= 100 * BOUND


@pytest.fixture
def write_lora(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a LoRA of random numbers, others for each name."""
    pytest.importorskip("peft", reason="parity tests need the export extra")

    def write(name: str) -> Path:
        generator = torch.Generator().manual_seed(len(name))
        key, path = "transformer.blocks.1.attn1.to_q", tmp_path / f"{name}.safetensors"
        pair = {
            f"{key}.lora_A.weight": torch.randn(4, 24, generator=generator),
            f"{key}.lora_B.weight": torch.randn(24, 4, generator=generator),
        }
        safetensors.save_file(pair, path)
        return path

    return write


@pytest.fixture
def plain(pipe: Pipeline) -> Iterator[Pipeline]:
    """The pipeline; its LoRAs are gone afterwards."""
    yield pipe
    pipe.set_loras({})


def test_a_lora_changes_both(
    plain: Pipeline, reference: Any, write_lora: Callable[[str], Path]
) -> None:
    path = write_lora("style")
    untouched = theirs(reference)
    reference.load_lora_weights(path.parent, weight_name=path.name)
    first = theirs(reference)
    reference.load_lora_weights(path.parent, weight_name=path.name, load_into_transformer_2=True)
    both = theirs(reference)
    plain.set_loras({path: 1.0})
    assert relative_error(ours(plain), both) <= BOUND
    plain.set_loras({path: {"denoiser": 1.0}})
    assert relative_error(ours(plain), first) <= BOUND
    for other in (untouched, first):
        assert relative_error(other, both) >= 10 * BOUND
    plain.set_loras({})
    assert relative_error(ours(plain), untouched) <= BOUND


def test_a_pair_of_loras_changes_one_each(
    plain: Pipeline, reference: Any, write_lora: Callable[[str], Path]
) -> None:
    high, low = write_lora("high"), write_lora("low")
    for path, second in ((high, False), (low, True)):
        reference.load_lora_weights(
            path.parent,
            weight_name=path.name,
            adapter_name=path.stem,
            load_into_transformer_2=second,
        )
    reference.transformer.set_adapters("high", 0.7)
    reference.transformer_2.set_adapters("low", 1.3)
    wanted = theirs(reference)
    plain.set_loras({high: {"denoiser": 0.7}, low: {"denoiser_2": 1.3}})
    assert relative_error(ours(plain), wanted) <= BOUND
    told = plain("a red circle", steps=1, width=32, height=32, frames=1).record.loras
    assert [(each["denoiser"], each["scale"]) for each in told] == [
        ("denoiser", 0.7), ("denoiser_2", 1.3),
    ]  # fmt: skip
    plain.set_loras({high: {"denoiser_2": 0.7}, low: {"denoiser": 1.3}})
    assert relative_error(ours(plain), wanted) >= 10 * BOUND


def test_one_file_at_two_scales(
    plain: Pipeline, reference: Any, write_lora: Callable[[str], Path]
) -> None:
    path = write_lora("style")
    for second in (False, True):
        reference.load_lora_weights(
            path.parent,
            weight_name=path.name,
            adapter_name="style",
            load_into_transformer_2=second,
        )
    reference.transformer.set_adapters("style", 1.0)
    reference.transformer_2.set_adapters("style", -0.5)
    plain.set_loras({path: {"denoiser": 1.0, "denoiser_2": -0.5}})
    assert relative_error(ours(plain), theirs(reference)) <= BOUND


def test_a_third_denoiser_is_named(plain: Pipeline, write_lora: Callable[[str], Path]) -> None:
    path = write_lora("style")
    with pytest.raises(UserError) as caught:
        plain.set_loras({path: {"denoiser_3": 1.0}})
    assert str(caught.value) == (
        f"{path}: unknown denoiser 'denoiser_3'; did you mean 'denoiser_2'? "
        "(known: denoiser, denoiser_2)"
    )


def test_what_the_bundle_says(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    assert manifest.denoiser.boundary == BOUNDARY
    assert (manifest.defaults.guidance_scale, manifest.defaults.guidance_scale_2) == (4.0, 3.0)
    first, second = manifest.graphs["denoiser"], manifest.graphs["denoiser_2"]
    assert (first.inputs, first.outputs, first.lora) == (second.inputs, second.outputs, second.lora)
    assert (first.data, second.data) == (("denoiser.data",), ("denoiser_2.data",))
    hashes = [manifest.files[name].sha256 for name in (*first.data, *second.data)]
    assert hashes[0] != hashes[1]


def test_it_was_verified(bundle: Path) -> None:
    checks = Bundle.open(bundle).manifest.checks
    assert Counter(check.graph for check in checks) == {
        "text_encoder": 3, "denoiser": 3, "denoiser_2": 3, "clip": 1,
        "vae_decoder_first": 3, "vae_decoder_next": 6,
    }  # fmt: skip
    errors = [check.value for check in checks if check.metric == "relative error"]
    assert max(errors) <= 3e-6  # roundings of fp32 in some tens of layers
    assert checks[-1].value >= 60


def test_tensorrt_builds_the_second(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="building engines needs the rtx extra")
    opened, store = Bundle.open(bundle), EngineStore(tmp_path)
    sizes = [LatentSize(2, 4, 8)]
    specs = {
        name: describe(TENSORRT_RTX, opened, name, sizes, ["sm_80"])
        for name in ("denoiser", "denoiser_2")
    }
    assert specs["denoiser"].profile == specs["denoiser_2"].profile
    engine = build_engine(store, opened, specs["denoiser_2"], None, lambda *_: None)
    assert engine.record.spec.graph == "denoiser_2"
    assert engine.record.weights_mb > 0
