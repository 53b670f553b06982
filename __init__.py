"""Mutoscope: text-to-video on your own machine, without PyTorch at run time.

with mutoscope.load() as pipe:
    pipe("a red circle moves left to right", seed=7).save("clip.mp4")
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .engine.lora import Scale
    from .errors import MutoscopeError, UserError
    from .runtime.clip import Clip
    from .runtime.output import Output
    from .runtime.pipeline import Pipeline
    from .runtime.request import Request

__all__ = ["Clip", "MutoscopeError", "Output", "Pipeline", "Request", "UserError", "load"]
__version__ = "0.1.0"

_HOMES = {
    "Clip": "runtime.clip",
    "MutoscopeError": "errors",
    "Output": "runtime.output",
    "Pipeline": "runtime.pipeline",
    "Request": "runtime.request",
    "UserError": "errors",
}
_EMBEDDED = Path(__file__).parent / "models" / "mini-wan"


def load(
    bundle: str | os.PathLike[str] | None = None,
    *,
    backend: str = "onnxruntime",
    precision: str | None = None,
    preset: str | None = None,
    threads: int | None = None,
    loras: Mapping[str | os.PathLike[str], Scale] | None = None,
    text_backend: str | None = None,
    weight_budget: int | None = None,
    keep_open: bool = True,
    int8_attention: bool = False,
) -> Pipeline:
    """Open a bundle as a pipeline.

    Args:
        bundle: a folder that `mutoscope export` wrote; by default the small embedded model.
        backend: what runs the engines.
        precision: what the bundle must have; by default whatever it has.
        preset: one of the bundle's ways to make clips, such as the embedded model's "fast": LoRAs,
            and the default steps and guidance that go with them. "full" is every bundle's model
            alone, in all of its steps. By default the bundle's first that the backend can have.
        threads: CPU threads; by default all cores.
        loras: files (safetensors), or the bundle's own by their names, and their scales, e.g.
            `{"outlines": 0.8}`: besides the preset's, what they say is added to the denoiser's
            weights. Of a bundle with two denoisers both are changed, or those that are named:
            `{"low.safetensors": {"denoiser_2": 1}}`. `Pipeline.set_loras` changes them.
        text_backend: what runs the text encoder, if something else: `onnxruntime` keeps it on the
            CPU, and its weights out of a GPU's memory.
        weight_budget: bytes of a GPU's memory for the weights of an engine that was built with
            `--weight-streaming`; the others are read from the host's as they are needed. By default
            TensorRT decides.
        keep_open: whether engines wait for the next clip; else each is closed as soon as a clip
            needs it no more, which takes less memory and opens them again for the next. Of two
            denoisers only the one in use is open but on a GPU with room for both.
        int8_attention: compute the scores of the denoiser's attention in int8: less exact; with the
            backends `tensorrt-rtx` and `onnxruntime-cuda`.

    Raises:
        UserError: no such bundle, a damaged one, or one of another precision; an unknown backend
            or preset; a LoRA that cannot be read or is for another model.
    """
    from .engine import Bundle, EngineOptions, Sessions
    from .engine.lora import open_loras
    from .engine.manifest import PRECISIONS
    from .engine.presets import choose_preset, preset_loras
    from .errors import UserError, unknown
    from .runtime.pipeline import Pipeline

    opened = Bundle.open(_EMBEDDED if bundle is None else bundle)
    if precision is not None and precision not in PRECISIONS:
        raise UserError(unknown("precision", precision, PRECISIONS))
    if precision not in (None, opened.precision):
        exported = precision in {"fp32", "fp16"}
        command = "export CHECKPOINT BUNDLE" if exported else "quantize BUNDLE OUT"
        command += " --backend tensorrt-rtx" if precision == "fp8" else ""
        raise UserError(
            f"{opened.path} is {opened.precision}, not {precision}; "
            f"make one with: mutoscope {command} --precision {precision}"
        )
    chosen = choose_preset(opened, preset, backend)
    options = EngineOptions(
        threads,
        (*preset_loras(chosen), *open_loras(loras or {}, chosen)),
        weight_budget=weight_budget,
        int8_attention=int8_attention,
    )
    sessions = Sessions(chosen, backend, options, text_backend=text_backend, keep_open=keep_open)
    return Pipeline(chosen, sessions)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used; `import mutoscope` itself stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
