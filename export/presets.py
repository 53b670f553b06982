"""What goes along in a bundle: LoRAs, and presets that use them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from ..engine.bundle import Bundle
from ..engine.lora import SUFFIX, open_loras
from ..engine.lora import check_loras as check_model
from ..engine.lora.file import read_file
from ..engine.lora.layers import read_layers
from ..engine.manifest import FULL_PRESET, Manifest, PresetSpec
from ..errors import UserError, unknown

FORM = "NAME:KEY=VALUE,… is needed, as in fast:lora=four-steps,steps=4,guidance_scale=1"


def check_loras(paths: Sequence[Path]) -> dict[str, Path]:
    """LoRAs by the names that they will have in the bundle.

    Raises:
        UserError: one cannot be read or is no LoRA, or two have one name.
    """
    found: dict[str, Path] = {}
    for path in paths:
        read_layers(read_file(path))
        if path.suffix != SUFFIX:
            raise UserError(f"--lora {path}: its name has to end in {SUFFIX}")
        if path.stem in found:
            raise UserError(f"--lora {path}: {found[path.stem]} has the same name; rename one")
        found[path.stem] = path
    return found


def copy_loras(loras: Sequence[Path], folder: Path) -> None:
    """Put LoRAs into a bundle's folder."""
    for path in loras:
        shutil.copyfile(path, folder / path.name)


def check_fit(folder: Path, manifest: Manifest, loras: Mapping[str, Path]) -> None:
    """See that LoRAs are for the model that they are to go along with.

    Raises:
        UserError: one is for another.
    """
    opened = open_loras(dict.fromkeys(loras.values(), 1))
    check_model(Bundle(folder, manifest, ""), opened)


def read_presets(texts: Sequence[str], loras: Sequence[str]) -> dict[str, PresetSpec]:
    """Presets from texts, `fast:lora=four-steps:1,steps=4,guidance_scale=1,shift_terminal=0.4`.

    Sigmas stand as `sigmas=1/0.75/0.5/0.25`.

    Args:
        texts: one for each; the first is what a request gets that does not say.
        loras: the names of those that are in the bundle.

    Raises:
        UserError: a text of another form, an unknown key or LoRA, or a value that does not suit.
    """
    found: dict[str, PresetSpec] = {}
    for text in texts:
        name, colon, rest = text.partition(":")
        if not name or not colon:
            raise UserError(f"--preset {text}: {FORM}")
        if name == FULL_PRESET or name in found:
            raise UserError(f"--preset {text}: there is one called {name!r} already")
        found[name] = _preset(text, rest, loras)
    return found


def _preset(text: str, rest: str, loras: Sequence[str]) -> PresetSpec:
    values: dict[str, str | list[str]] = {}
    scales: dict[str, str] = {}
    known = ["lora", *(key for key in PresetSpec.__struct_fields__ if key != "loras")]
    for part in rest.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            raise UserError(f"--preset {text}: {FORM}")
        if key not in known:
            raise UserError(f"--preset {text}: {unknown('setting', key, known)}")
        if key == "lora":
            lora, _, scale = value.partition(":")
            if lora not in loras:
                raise UserError(
                    f"--preset {text}: the bundle has no LoRA {lora!r}; add it with --lora FILE"
                )
            scales[lora + SUFFIX] = scale or "1"
        else:
            values[key] = value.split("/") if key == "sigmas" else value
    try:
        return msgspec.convert({**values, "loras": scales}, PresetSpec, strict=False)
    except msgspec.ValidationError as error:
        raise UserError(f"--preset {text}: {error}") from None
