"""Which parameter of a bundle's graph a LoRA's layer changes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

WEIGHT, BIAS = ".weight", ".bias"


class Targets:
    """The modules of a graph, under every name that files give them.

    Three styles are known: `transformer.` and diffusers' names; `diffusion_model.` and the names
    of the model's authors; `lora_unet_` and those with underscores for dots.
    """

    def __init__(self, parameters: Iterable[str], aliases: Mapping[str, str]) -> None:
        """Take the checkpoint's names, and what the authors call them (see `LoraSpec`)."""
        self.parameters = frozenset(parameters)
        self._aliases = {_pattern(ours): theirs for ours, theirs in aliases.items()}

    def weight(self, layer: str) -> str | None:
        """The parameter that is the layer's weight; `None` where there is none."""
        module = self._modules.get(layer, layer)
        return next((p for p in (f"{module}{WEIGHT}", module) if p in self.parameters), None)

    def bias(self, layer: str) -> str | None:
        """The parameter that is the layer's bias; `None` where there is none."""
        name = f"{self._modules.get(layer, layer)}{BIAS}"
        return name if name in self.parameters else None

    def nearest(self, layer: str) -> str | None:
        """The known layer with the most similar name."""
        return next(iter(difflib.get_close_matches(layer, self._modules, n=1)), None)

    @cached_property
    def _modules(self) -> dict[str, str]:
        """The checkpoint's name of a module, by every spelling."""
        modules = {p.removesuffix(WEIGHT).removesuffix(BIAS) for p in self.parameters}
        return {spelling: module for module in modules for spelling in self._spellings(module)}

    def _spellings(self, module: str) -> Iterator[str]:
        yield f"transformer.{module}"
        theirs = self._authors_name(module)
        yield f"diffusion_model.{theirs}"
        yield f"lora_unet_{theirs.replace('.', '_')}"

    def _authors_name(self, module: str) -> str:
        for pattern, theirs in self._aliases.items():
            match = pattern.fullmatch(module)
            if match:
                return theirs.replace("*", match[1]) if match.groups() else theirs
        return module


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\*", "([0-9]+)", 1))
