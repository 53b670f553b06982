"""Presets: which one a bundle is opened with, and what changes with it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import mutoscope
import numpy as np
import pytest
from mutoscope.engine import Bundle
from mutoscope.engine.bundle import describe_files
from mutoscope.engine.manifest import PresetSpec, read_manifest, write_manifest
from mutoscope.engine.presets import choose_preset, preset_loras
from mutoscope.errors import BundleError, UserError
from mutoscope.runtime.request import Request, settle

EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
FEW = PresetSpec(steps=4, guidance_scale=1, shift_terminal=0.4)


def with_presets(folder: Path, **presets: PresetSpec) -> Bundle:
    manifest = msgspec.structs.replace(read_manifest(folder)[0], presets=presets)
    write_manifest(folder, manifest)
    return Bundle.open(folder)


def test_the_first_is_the_default(bundle_folder: Path) -> None:
    bundle = with_presets(bundle_folder, few=FEW, one=PresetSpec(steps=1))
    assert choose_preset(bundle, None, "null").preset == "few"
    assert choose_preset(bundle, "one", "null").preset == "one"


def test_what_it_says_is_what_a_request_gets(bundle_folder: Path) -> None:
    bundle = with_presets(bundle_folder, few=FEW)
    request = Request.of("a red circle", {})
    settings = settle(request, choose_preset(bundle, "few", "null").manifest)
    assert (settings.steps, settings.guidance_scale, settings.shift_terminal) == (4, 1, 0.4)
    plain = settle(request, bundle.manifest)
    assert settle(request, choose_preset(bundle, "full", "null").manifest).steps == plain.steps
    asked = Request.of("a red circle", {"steps": 7, "guidance_scale": 3})
    settings = settle(asked, choose_preset(bundle, "few", "null").manifest)
    assert (settings.steps, settings.guidance_scale, settings.shift_terminal) == (7, 3, 0.4)


def test_its_sigmas_are_the_steps_of_a_request_that_says_nothing_of_them(
    bundle_folder: Path,
) -> None:
    bundle = with_presets(bundle_folder, own=PresetSpec(sigmas=(1, 0.5)))
    manifest = choose_preset(bundle, "own", "null").manifest

    def settled(**options: Any) -> tuple[Any, ...]:
        found = settle(Request.of("a red circle", options), manifest)
        return found.steps, found.sigmas, found.shift_terminal

    assert settled() == (2, (1, 0.5), None)
    assert settled(sigmas=[0.9]) == settled(sigmas=np.array([0.9])) == (1, (0.9,), None)
    assert settled(steps=5) == (5, None, None)
    assert settled(steps=2) == (2, (1, 0.5), None)
    assert settled(shift_terminal=0.3) == (2, None, 0.3)
    assert settled(scheduler="unipc") == (2, None, None)


def test_its_sigmas_are_eulers(bundle_folder: Path) -> None:
    """A bundle of another scheduler gets that one with them."""
    bundle = with_presets(bundle_folder, own=PresetSpec(sigmas=(1, 0.5)))
    scheduler = msgspec.structs.replace(bundle.manifest.scheduler, name="unipc")
    write_manifest(bundle_folder, msgspec.structs.replace(bundle.manifest, scheduler=scheduler))
    chosen = choose_preset(Bundle.open(bundle_folder), "own", "null").manifest
    settings = settle(Request.of("a red circle", {}), chosen)
    assert (settings.scheduler, settings.sigmas) == ("euler", (1, 0.5))


def test_what_it_does_not_say_stays(bundle_folder: Path) -> None:
    bundle = with_presets(bundle_folder, short=PresetSpec(steps=2))
    chosen = choose_preset(bundle, "short", "null").manifest
    assert chosen.defaults == msgspec.structs.replace(bundle.manifest.defaults, steps=2)
    assert chosen.scheduler == bundle.manifest.scheduler


def test_another_guidance_is_that_of_both_experts(expert_bundle_folder: Path) -> None:
    bundle = with_presets(expert_bundle_folder, few=FEW)
    chosen = choose_preset(bundle, "few", "null")
    assert settle(Request.of("a red circle", {}), chosen.manifest).guidance_scale_2 == 1


def test_without_presets_a_bundle_is_as_it_is(bundle: Bundle) -> None:
    assert choose_preset(bundle, None, "null") is bundle
    assert bundle.preset == "full"
    assert preset_loras(bundle) == ()


def test_an_unknown_one(bundle_folder: Path) -> None:
    bundle = with_presets(bundle_folder, fast=FEW)
    told = "unknown preset 'fats'; did you mean 'fast'? (known: fast, full)"
    with pytest.raises(UserError) as refused:
        choose_preset(bundle, "fats", "null")
    assert str(refused.value) == told


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_one_whose_loras_want_other_engines_is_left_out(backend: str) -> None:
    bundle = Bundle.open(EMBEDDED)
    assert choose_preset(bundle, None, "onnxruntime").preset == "fast"
    assert choose_preset(bundle, None, backend).preset == "full"


def test_other_loras_come_on_top() -> None:
    with mutoscope.load(backend="null", loras={"outlines": 0.5}) as pipe:
        assert scales(pipe) == {"four-steps.safetensors": 1, "outlines.safetensors": 0.5}
        pipe.set_loras({})
        assert scales(pipe) == {"four-steps.safetensors": 1}
        assert pipe("a red circle", steps=1).record.bundle["preset"] == "fast"
    with mutoscope.load(backend="null", preset="full") as pipe:
        assert scales(pipe) == {}
        pipe.set_loras({"outlines": 1})
        assert scales(pipe) == {"outlines.safetensors": 1}


def scales(pipe: mutoscope.Pipeline) -> dict[str, float]:
    return {lora.file.path.name: lora.scale for lora in pipe.sessions.options.loras}


def test_a_bundles_own_go_by_their_names(bundle_folder: Path, tmp_path: Path) -> None:
    shutil.copyfile(EMBEDDED / "outlines.safetensors", bundle_folder / "mine.safetensors")
    manifest = read_manifest(bundle_folder)[0]
    files = describe_files(bundle_folder)
    write_manifest(bundle_folder, msgspec.structs.replace(manifest, files=files))
    told = r"no LoRA at outlines: there is no such file \(the bundle's own: mine\)"
    with pytest.raises(UserError, match=told):
        mutoscope.load(bundle_folder, backend="null", loras={"outlines": 1})


@pytest.mark.parametrize(
    ("presets", "told"),
    [
        ({"full": FEW}, "a preset may not be called 'full', as the default request is"),
        (
            {"a": PresetSpec(loras={"none.safetensors": 1.0})},
            "'none.safetensors' is named but not listed in `files`",
        ),
        ({"a": PresetSpec(steps=0)}, r"Expected `int` >= 1 - at `\$.presets\[...\].steps`"),
    ],
)
def test_refused(bundle_folder: Path, presets: dict[str, PresetSpec], told: str) -> None:
    with pytest.raises(BundleError, match=told):
        with_presets(bundle_folder, **presets)
