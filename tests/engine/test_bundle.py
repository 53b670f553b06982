"""What opens, and what each kind of damage is told."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutoscope.engine.bundle import Bundle
from mutoscope.errors import BundleError


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "bundle.json"
    whole = json.loads(path.read_text())
    change(whole)
    path.write_text(json.dumps(whole))


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(folder), "BUNDLE")


def test_opens(bundle_folder: Path) -> None:
    bundle = Bundle.open(bundle_folder)
    assert bundle.precision == "fp32"
    assert bundle.manifest.latents.channels == 4
    assert bundle.graph("denoiser").inputs[0].shape == ("batch", 4, "frames", "height", "width")
    assert re.fullmatch("[0-9a-f]{64}", bundle.sha256)


def test_no_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none") == "no bundle at BUNDLE: there is no such folder"


def test_no_bundle_json(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        "no bundle at BUNDLE: bundle.json is missing; "
        "make one with: mutoscope export CHECKPOINT BUNDLE"
    )


def test_flipped_byte(bundle_folder: Path) -> None:
    path = bundle_folder / "denoiser.data"
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    assert refusal(bundle_folder) == (
        "BUNDLE/denoiser.data is not the file that was exported (its sha256 differs); "
        "copy or export the bundle again"
    )


def test_truncated_file(bundle_folder: Path) -> None:
    path = bundle_folder / "denoiser.data"
    path.write_bytes(path.read_bytes()[:-1])
    assert "denoiser.data has 24 bytes, 25 expected" in refusal(bundle_folder)


def test_missing_file(bundle_folder: Path) -> None:
    (bundle_folder / "denoiser.onnx").unlink()
    assert refusal(bundle_folder) == ("BUNDLE lacks denoiser.onnx; copy or export the bundle again")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../outside", "..\\outside"])
def test_path_outside(bundle_folder: Path, name: str) -> None:
    def change(whole: dict[str, Any]) -> None:
        whole["graphs"]["denoiser"]["file"] = name
        whole["files"][name] = whole["files"].pop("denoiser.onnx")

    edit(bundle_folder, change)
    assert refusal(bundle_folder) == (
        f"BUNDLE/bundle.json names {name!r}, outside the bundle; refused"
    )


def test_link_outside(bundle_folder: Path, tmp_path: Path) -> None:
    inside, outside = bundle_folder / "denoiser.onnx", tmp_path / "elsewhere"
    inside.rename(outside)
    inside.symlink_to(outside)
    assert "outside the bundle; refused" in refusal(bundle_folder)


def test_unlisted_file(bundle_folder: Path) -> None:
    (bundle_folder / "more.data").touch()
    assert refusal(bundle_folder) == (
        "BUNDLE/more.data is not part of the bundle; remove it, weights could hide in it"
    )


def test_name_that_no_disk_takes(tmp_path: Path) -> None:
    told = refusal(tmp_path / ("a" * 300))
    assert told == "cannot read BUNDLE/bundle.json: File name too long"


def test_future_schema(bundle_folder: Path) -> None:
    edit(bundle_folder, lambda whole: whole.update(schema=2))
    assert refusal(bundle_folder) == (
        "BUNDLE/bundle.json has schema 2, this version reads up to 1: upgrade mutoscope"
    )


@pytest.mark.parametrize("schema", [None, "1", 0, -3, 1.5, True])
def test_no_schema(bundle_folder: Path, schema: object) -> None:
    edit(bundle_folder, lambda whole: whole.update(schema=schema))
    assert "does not say its schema version" in refusal(bundle_folder)


def test_not_json(bundle_folder: Path) -> None:
    (bundle_folder / "bundle.json").write_text("{")
    assert "BUNDLE/bundle.json is not valid JSON" in refusal(bundle_folder)


def test_huge_json(bundle_folder: Path) -> None:
    os.truncate(bundle_folder / "bundle.json", 9 << 20)
    assert "is larger than 8 MB" in refusal(bundle_folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w.pop("latents"), "missing required field `latents`"),
        (lambda w: w.update(extra=1), "unknown field `extra`"),
        (lambda w: w["defaults"].update(steps=0), "Expected `int` >= 1 - at `$.defaults.steps`"),
        (lambda w: w["graphs"].pop("denoiser"), "no graph named 'denoiser'"),
        (lambda w: w["files"].pop("tokenizer.json"), "'tokenizer.json' is named but not listed"),
        (lambda w: w["latents"].update(mean=[0.0]), "are not of 4 channels"),
        (
            lambda w: w["denoiser"].update(image="first_frame"),
            "the denoiser's timestep is not as `denoiser.image` says",
        ),
        (lambda w: w["denoiser"].update(image="last"), "Invalid enum value 'last'"),
    ],
)
def test_wrong_field(
    bundle_folder: Path, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    edit(bundle_folder, change)
    assert told in refusal(bundle_folder)


def test_a_bundle_says_whether_it_takes_an_image(
    bundle_folder: Path, image_bundle_folder: Path
) -> None:
    """Those of text alone say nothing, as all did before any took one."""
    folders = (bundle_folder, image_bundle_folder)
    said = [json.loads((f / "bundle.json").read_text())["denoiser"].get("image") for f in folders]
    assert said == [None, "first_frame"]
    assert "image" not in json.loads((bundle_folder / "bundle.json").read_text())["denoiser"]
    assert Bundle.open(bundle_folder).manifest.denoiser.image is None
    assert Bundle.open(image_bundle_folder).manifest.denoiser.image == "first_frame"


def test_the_denoisers_channels_are_as_it_takes_an_image(channel_bundle_folder: Path) -> None:
    assert Bundle.open(channel_bundle_folder).manifest.denoiser.image == "channels"
    edit(channel_bundle_folder, lambda whole: whole["denoiser"].pop("image"))
    assert refusal(channel_bundle_folder) == (
        "BUNDLE/bundle.json: the denoiser's channels are not as `denoiser.image` says; "
        "export the bundle again"
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda whole: whole["denoiser"].pop("boundary"), "go together, one of them is missing"),
        (lambda whole: whole["graphs"].pop("denoiser_2"), "go together, one of them is missing"),
        (
            lambda whole: whole["graphs"]["denoiser_2"]["inputs"].pop(),
            "the two denoisers differ in their inputs or outputs",
        ),
        (lambda whole: whole["denoiser"].update(boundary=1), "Expected `float` < 1.0"),
    ],
    ids=["no boundary", "no graph", "other inputs", "no share"],
)
def test_two_experts_have_a_boundary_and_one_interface(
    expert_bundle_folder: Path, change: Callable[[dict[str, Any]], object], problem: str
) -> None:
    assert Bundle.open(expert_bundle_folder).manifest.denoiser.boundary == 0.5
    edit(expert_bundle_folder, change)
    assert problem in refusal(expert_bundle_folder)


def test_unknown_graph(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="has no graph 'upscaler' .it has: denoiser, text_enc"):
        bundle.graph("upscaler")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_json_gives_clean_errors(bundle_folder: Path, data: st.DataObject) -> None:
    """Whatever replaces whatever value, the loader opens the bundle or says one line."""
    whole = json.loads((bundle_folder / "bundle.json").read_text())
    node: Any = whole
    while True:
        keys = sorted(node) if isinstance(node, dict) else range(len(node))
        key = data.draw(st.sampled_from(keys))
        inner = node[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        node = inner
    node[key] = data.draw(json_values)
    opens_or_says_why(json.dumps(whole).encode(), bundle_folder)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.floats(0, 1), junk=st.binary(max_size=4), cut=st.booleans())
def test_damaged_bytes_give_clean_errors(
    bundle_folder: Path, at: float, junk: bytes, cut: bool
) -> None:
    raw = (bundle_folder / "bundle.json").read_bytes()
    place = int(at * len(raw))
    opens_or_says_why(raw[:place] + junk + (b"" if cut else raw[place:]), bundle_folder)


def test_a_line_break_in_a_name_stays_on_one_line(bundle_folder: Path) -> None:
    whole = json.loads((bundle_folder / "bundle.json").read_text())
    whole["defaults"]["a\nb"] = 1
    opens_or_says_why(json.dumps(whole).encode(), bundle_folder)


def opens_or_says_why(raw: bytes, folder: Path) -> None:
    path = folder / "bundle.json"
    whole = path.read_bytes()
    path.write_bytes(raw)
    try:
        Bundle.open(folder)
    except BundleError as error:
        assert "\n" not in str(error)
    finally:
        path.write_bytes(whole)
