"""Where a clip's stages are placed, told of graphs that take round amounts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from mutoscope.engine.manifest import Manifest
from mutoscope.engine.planner import Needs, Peak, Weights
from mutoscope.runtime.plan import ONNXRUNTIME, TENSORRT, Machine, Plan
from mutoscope.runtime.plan.machine import enough, shown
from mutoscope.runtime.plan.placement import place
from mutoscope.runtime.plan.stages import Stages, Tell
from mutoscope.runtime.request import Request, settle

GB, MB = 1 << 30, 1 << 20
LARGE = GB // 2
"""The largest weight of each graph."""


def graph(weights: float, working: float, products: float = 0.0) -> Needs:
    """Of a graph in fp16: GB on a GPU; on the CPU twice as much."""
    gpu = Peak(int(weights * GB), int(working * GB))
    cpu = Peak(int(2 * weights * GB), 0, int(2 * working * GB))
    elements = int(products * GB) // 2
    return Needs(0, cpu, gpu, 0, Weights(elements, 2 * elements, LARGE))


def told(
    text: float = 2, denoiser: float = 8, working: float = 1, vae: float = 3, share: float = 0.5
) -> Tell:
    """GB of weights, and what a prediction and a whole frame of 512x512 take beside them.

    Of the text encoder a share are products.
    """

    def tell(name: str, axes: Mapping[str, int], runs: int) -> Needs:
        area = axes["latent_height"] * axes["latent_width"] / 64**2
        volume = area * axes["latent_frames"] / 21
        if name == "text_encoder":
            return graph(text, 0, text * share)
        if name == "denoiser":
            return graph(denoiser, working * volume * axes["batch"], denoiser)
        return graph(0, vae * area if name.endswith("next") else 0)

    return tell


def stages(manifest: Manifest, tell: Tell, **options: Any) -> Stages:
    request = {"width": 512, "height": 512, "frames": 81, **options}
    return Stages(manifest, settle(Request.of("any", request), manifest), tell)


def placed(clip: Stages, vram: float, ram: float = 64) -> Any:
    return place(clip, Machine(int(ram * GB), int(vram * GB)), TENSORRT)


def test_all_on_the_gpu_where_there_is_room(bundle_manifest: Manifest) -> None:
    found = placed(stages(bundle_manifest, told()), 1024)
    assert (found.fits, found.options) == (True, {})
    assert (found.vram, found.ram) == (10 * GB, 100 * MB)


@pytest.mark.parametrize(
    ("vram", "options"),
    [
        (40, {"sequential_guidance": True}),
        (9, {"sequential_guidance": True}),
        (8, {"sequential_guidance": True, "weight_budget": 6656 * MB}),
        (3, {"sequential_guidance": True, "weight_budget": 1856 * MB}),
        (2.5, {"sequential_guidance": True, "vae_tile": 256, "weight_budget": 1376 * MB}),
        (
            1.8,
            {
                "text_backend": ONNXRUNTIME,
                "sequential_guidance": True,
                "vae_tile": 256,
                "weight_budget": 704 * MB,
            },
        ),
    ],
)
def test_each_stage_takes_the_fastest_way_that_fits(
    bundle_manifest: Manifest, vram: float, options: dict[str, Any]
) -> None:
    large = told()

    def small_weights(name: str, axes: Mapping[str, int], runs: int) -> Needs:
        needs = large(name, axes, runs)
        return replace(needs, weights=replace(needs.weights, largest=256 * MB))

    found = placed(stages(bundle_manifest, small_weights), vram)
    assert found.fits
    assert found.options == options
    assert found.vram <= vram * GB


@pytest.mark.parametrize(
    ("card", "options"),
    [
        (80, {}),
        (24, {"sequential_guidance": True, "weight_budget": 20992 * MB}),
        (16, {"sequential_guidance": True, "vae_tile": 256, "weight_budget": 13312 * MB}),
        (12, {"sequential_guidance": True, "vae_tile": 256, "weight_budget": 9472 * MB}),
        (
            8,
            {
                "text_backend": ONNXRUNTIME,
                "sequential_guidance": True,
                "vae_tile": 256,
                "weight_budget": 5632 * MB,
            },
        ),
    ],
)
def test_a_model_of_14_billion(
    bundle_manifest: Manifest, card: int, options: dict[str, Any]
) -> None:
    """Its weights are 28 GB and more; the text encoder's 11."""
    large = told(text=11, denoiser=28.5, working=2, vae=16.5)
    found = placed(stages(bundle_manifest, large), card)
    assert (found.fits, found.options) == (True, options)
    assert found.vram <= card * GB


def test_two_experts_are_two_engines(bundle_manifest: Manifest) -> None:
    graphs = {**bundle_manifest.graphs, "denoiser_2": bundle_manifest.graphs["denoiser"]}
    two = msgspec.structs.replace(bundle_manifest, graphs=graphs)
    machine = Machine(64 * GB, 24 * GB)
    one, both = (plan(manifest, told(), machine) for manifest in (bundle_manifest, two))
    assert both.engines - one.engines == 8 * GB
    assert both.placements[TENSORRT].vram == one.placements[TENSORRT].vram


def test_a_budget_leaves_room_for_what_a_run_takes(bundle_manifest: Manifest) -> None:
    """Weights, what is worked in, and a sixteenth of the GPU."""
    found = placed(stages(bundle_manifest, told()), 8)
    assert found.options["weight_budget"] + GB <= 8 * GB - GB // 2
    assert found.ram == 100 * MB + 8 * GB
    assert [found.streamed(stage) for stage in ("text", "denoiser", "vae")] == [False, True, False]


def test_of_two_budgets_the_smaller(bundle_manifest: Manifest) -> None:
    """The text encoder is streamed where it fits neither the GPU nor, in fp32, the CPU's memory."""
    found = placed(stages(bundle_manifest, told(text=20)), 8, ram=24)
    assert found.fits
    assert "text_backend" not in found.options
    assert found.streamed("text")
    assert found.options["weight_budget"] == 6656 * MB


def test_tiles_that_were_asked_for_come_first(bundle_manifest: Manifest) -> None:
    clip = stages(bundle_manifest, told(vae=8), vae_tile=256)
    assert "vae_tile" not in placed(clip, 9).options
    assert placed(clip, 1.9).options["vae_tile"] == 128


def test_frames_wait_on_the_gpu_for_their_tiles(bundle_manifest: Manifest) -> None:
    clip = stages(bundle_manifest, told())
    opened = clip.decoder(256)[-1]
    assert clip.vram(opened, 256) == clip.vram(opened) + 81 * 512 * 512 * 3 * 4


def test_of_the_first_decoder_no_more_than_its_results_is_left_for_the_next(
    bundle_manifest: Manifest,
) -> None:
    """Its arena keeps them on the CPU; in tiles both stay open. `graph` doubles all on a CPU."""

    def tell(name: str, axes: Mapping[str, int], runs: int) -> Needs:
        return graph(1, 2) if name == "vae_decoder_first" else graph(3, 4 + runs)

    clip = stages(bundle_manifest, tell)
    around = clip.ram({})
    assert [clip.ram(each) - around for each in clip.decoder(0)] == [6 * GB, 20 * GB, 22 * GB]
    assert [clip.vram(each) for each in clip.decoder(0)] == [3 * GB, 8 * GB, 11 * GB]
    assert [clip.ram(each) - around for each in clip.decoder(256)] == [28 * GB]
    assert [clip.vram(each) for each in clip.decoder(256)] == [14 * GB]


def test_without_guidance_there_is_nothing_to_part(bundle_manifest: Manifest) -> None:
    clip = stages(bundle_manifest, told(), guidance_scale=1)
    assert placed(clip, 9).options == {}
    assert list(placed(clip, 8).options) == ["weight_budget"]


def test_while_an_engine_opens_its_largest_half_is_there_twice(bundle_manifest: Manifest) -> None:
    """UMT5's embedding outweighs what the encoder works in."""
    clip = stages(bundle_manifest, told())
    for working, taken in ((2, 5), (4, 6)):
        needs = graph(1, working / 2)
        needs = replace(needs, weights=replace(needs.weights, widened=3 * GB))
        assert clip.ram({"text_encoder": needs}) - clip.ram({}) == taken * GB


def test_on_the_cpu(bundle_manifest: Manifest) -> None:
    clip = stages(bundle_manifest, told(), width=128, height=128)

    def on_cpu(ram: float) -> Any:
        return place(clip, Machine(int(ram * GB)), ONNXRUNTIME)

    plenty = on_cpu(64)
    assert (plenty.fits, plenty.options, plenty.vram) == (True, {}, 0)
    alone = plenty.ram - 2 * GB * 2 * 128**2 // 512**2 // 2
    assert on_cpu((alone + MB) / GB).options == {"sequential_guidance": True}
    assert not on_cpu(16).fits
    large = stages(bundle_manifest, told(vae=12))
    assert place(large, Machine(20 * GB), ONNXRUNTIME).options == {"vae_tile": 256}


def plan(manifest: Manifest, tell: Tell, machine: Machine, precision: str = "fp16") -> Plan:
    return Plan(stages(manifest, tell), machine, precision, disk=0)


def test_the_gpu_comes_first(bundle_manifest: Manifest) -> None:
    machine = Machine(64 * GB, 24 * GB)
    both = plan(bundle_manifest, told(), machine)
    assert list(both.placements) == [TENSORRT, ONNXRUNTIME]
    assert both.chosen is both.placements[TENSORRT]
    slow = plan(bundle_manifest, told(), replace(machine, vram=GB))
    assert slow.chosen is slow.placements[ONNXRUNTIME]


def test_what_would_fit(bundle_manifest: Manifest) -> None:
    """It needs 1 GB to work in and two of the largest weights; a 16th is left."""
    found = plan(bundle_manifest, told(), Machine(12 * GB, int(1.2 * GB)))
    assert found.chosen is None
    told_of = found.remedies()
    assert told_of.vram == 2 * GB * 16 // 15
    assert told_of.ram == (100 + 8) * MB + 18 * GB + 4 * 4 * 512 * 512 * 12
    assert told_of.size == (128, 128)
    assert told_of.frames == 1
    assert told_of.precision == "int8"  # 8 GB of fp16, held as 16 on the CPU, become 4
    for machine in (Machine(12 * GB, told_of.vram), Machine(told_of.ram)):
        assert plan(bundle_manifest, told(), machine).chosen is not None


def test_estimates_are_of_other_precisions(bundle_manifest: Manifest) -> None:
    machine = Machine(64 * GB, 24 * GB)
    assert set(plan(bundle_manifest, told(), machine, "int8").estimates) == set()
    of_fp16 = plan(bundle_manifest, told(), machine).estimates
    gpu, cpu = of_fp16["int8"]
    assert (gpu.vram, gpu.options) == (5 * GB, {"sequential_guidance": True})
    assert (cpu.backend, [each.backend for each in of_fp16["int4"]]) == (ONNXRUNTIME, [ONNXRUNTIME])
    halved = plan(bundle_manifest, told(), machine, "fp32").estimates["fp16"]
    assert [each.vram for each in halved] == [4 * GB + GB // 2]


def test_quantized_for_a_gpu_the_text_encoder_on_the_cpu_is_as_it_was(
    bundle_manifest: Manifest,
) -> None:
    found = plan(bundle_manifest, told(text=30), Machine(256 * GB, 24 * GB))
    gpu, cpu = found.estimates["int8"]
    assert gpu.options["text_backend"] == ONNXRUNTIME
    assert gpu.ram == found.placements[TENSORRT].ram
    assert cpu.ram < found.placements[ONNXRUNTIME].ram


@pytest.mark.parametrize(
    ("ram", "share", "options", "text"),
    [
        (64, 0.8, {"text_backend": ONNXRUNTIME}, []),
        (16, 0.8, {}, ["int8"]),
        (8, 0.8, {}, ["int4"]),
        (12, 0.5, {"weight_budget": 7680 * MB}, []),  # an embedding that int8 leaves in fp32
    ],
)
def test_a_text_encoder_too_large_for_the_card_and_in_fp32_for_the_memory(
    bundle_manifest: Manifest, ram: float, share: float, options: dict[str, Any], text: list[str]
) -> None:
    """The gate lets int8 pass; int4 comes after what loses nothing. 11 GB in fp16, as UMT5-XXL."""
    clip = told(text=11, share=share)
    found = plan(bundle_manifest, clip, Machine(int(ram * GB), 8 * GB))
    estimate, _ = found.estimates["int8"]
    assert estimate.fits
    assert estimate.options == {"sequential_guidance": True, **options}
    assert [measure.value for measure in estimate.quantized] == text
    assert estimate.beyond_gate == (text == ["int4"])
    if text:
        bytes_less = 4 - {"int8": 1.125, "int4": 0.625}[text[0]]
        frames = 4 * 4 * 512 * 512 * 12
        weights = 22 - 11 * share / 2 * bytes_less
        assert estimate.ram == pytest.approx(108 * MB + frames + weights * GB, abs=2)


def test_what_is_predicted_of_the_bundle_as_it_is_has_no_fewer_bits(
    bundle_manifest: Manifest,
) -> None:
    found = plan(bundle_manifest, told(text=11, share=0.8), Machine(8 * GB, 8 * GB))
    assert found.chosen is None
    assert [placed.quantized for placed in found.placements.values()] == [[], []]
    assert found.remedies().precision == "int8"


def test_on_the_cpu_int4_where_int8_is_too_much(bundle_manifest: Manifest) -> None:
    clip = told(text=11, denoiser=2, working=0, vae=0, share=0.8)
    for ram, text in ((12, "int8"), (8, "int4")):
        (estimate,) = plan(bundle_manifest, clip, Machine(ram * GB)).estimates["int4"]
        assert (estimate.fits, [each.value for each in estimate.quantized]) == (True, [text])


def test_a_bundle_quantized_for_the_cpu_is_for_no_gpu(bundle_manifest: Manifest) -> None:
    quality = {
        "errors": {}, "step_errors": [0.0], "latent_errors": [0.0], "psnr": 100.0, "ssim": 1.0,
        "adherence": None, "source_adherence": None, "clips": 1,
    }  # fmt: skip
    facts = {"source": "0" * 64, "backend": "onnxruntime", "formats": {}, "quality": quality}
    raw = {**msgspec.to_builtins(bundle_manifest), "quantization": facts}
    quantized = msgspec.convert(raw, Manifest)
    found = plan(quantized, told(), Machine(64 * GB, 24 * GB), "int8")
    assert list(found.placements) == [ONNXRUNTIME]


@pytest.mark.parametrize(
    ("amount", "text", "option"),
    [(12 * GB, "12.0 GB", "12.0GB"), (300 * MB, "300.0 MB", "0.3GB"), (GB + 1, "1.0 GB", "1.1GB")],
)
def test_amounts(amount: int, text: str, option: str) -> None:
    assert (shown(amount), enough(amount)) == (text, option)
