"""A bundle's presets: ways to make clips, of which one is chosen as it is opened."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..errors import UserError, unknown
from .bundle import Bundle
from .lora import SUFFIX, Lora, open_loras
from .manifest import FULL_PRESET, Manifest, PresetSpec
from .open import takes_loras


def choose_preset(bundle: Bundle, name: str | None, backend: str) -> Bundle:
    """The bundle with a preset's defaults.

    Args:
        bundle: as it was opened.
        name: of the preset, `full` for the bundle's own defaults; `None` for the first whose LoRAs
            the backend adds to the weights as it opens them, or `full` where there is none.
        backend: which.

    Raises:
        UserError: the bundle has no preset of that name.
        BundleError: a LoRA of a preset cannot be read.
    """
    presets = bundle.manifest.presets
    if name is None:
        name = next(_possible(bundle, backend), FULL_PRESET)
    if name == FULL_PRESET:
        return bundle
    if name not in presets:
        raise UserError(unknown("preset", name, [*presets, FULL_PRESET]))
    return _with(bundle, name)


def preset_loras(bundle: Bundle) -> tuple[Lora, ...]:
    """Those of the preset that was chosen."""
    if bundle.preset == FULL_PRESET:
        return ()
    return _loras(bundle, bundle.manifest.presets[bundle.preset])


def without_loras(manifest: Manifest) -> Manifest:
    """A manifest without its LoRAs and the presets that need them: its weights take none."""
    return msgspec.structs.replace(
        manifest,
        files={name: file for name, file in manifest.files.items() if not name.endswith(SUFFIX)},
        presets={name: preset for name, preset in manifest.presets.items() if not preset.loras},
    )


def _possible(bundle: Bundle, backend: str) -> Iterator[str]:
    can = takes_loras(bundle, backend)
    return (name for name, spec in bundle.manifest.presets.items() if can or not spec.loras)


def _loras(bundle: Bundle, spec: PresetSpec) -> tuple[Lora, ...]:
    return open_loras({bundle.file(file): scale for file, scale in spec.loras.items()})


def _with(bundle: Bundle, name: str) -> Bundle:
    manifest = bundle.manifest
    spec = manifest.presets[name]
    defaults, scheduler = manifest.defaults, manifest.scheduler
    if spec.steps is not None:
        defaults = msgspec.structs.replace(defaults, steps=spec.steps)
    if spec.guidance_scale is not None:
        defaults = msgspec.structs.replace(
            defaults, guidance_scale=spec.guidance_scale, guidance_scale_2=None
        )
    if spec.shift_terminal is not None:
        scheduler = msgspec.structs.replace(scheduler, shift_terminal=spec.shift_terminal)
    if spec.sigmas:
        scheduler = msgspec.structs.replace(scheduler, name="euler", sigmas=spec.sigmas)
        defaults = msgspec.structs.replace(defaults, steps=len(spec.sigmas))
    changed = msgspec.structs.replace(manifest, defaults=defaults, scheduler=scheduler)
    return Bundle(bundle.path, changed, bundle.sha256, preset=name)
