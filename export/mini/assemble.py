"""A finished checkpoint: a diffusers Wan folder in half precision."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from .denoiser import load_denoiser, load_text, load_vae
from .samples import pipeline
from .workplace import Workplace

TOKENIZER_CLASSES = "TokenizersBackend", "PreTrainedTokenizerFast"
"""Of one class: its name since transformers 5, and the one that older versions know too."""


def assemble(workplace: Workplace, folder: Path) -> None:
    """Write what `WanPipeline.from_pretrained` opens.

    Raises:
        UserError: a stage that it needs is not finished.
    """
    denoiser = load_denoiser(workplace.product("dit"), "cpu")
    text_encoder, tokenizer = load_text(workplace.product("dit"), "cpu")
    vae = load_vae(workplace, "cpu")
    for module in (vae, text_encoder, denoiser):
        _halve(module)
    for module in (vae, denoiser):
        module.register_to_config(_name_or_path="")  # else the folder it was read from
    pipeline(vae, text_encoder, tokenizer, denoiser).save_pretrained(folder)
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace(*TOKENIZER_CLASSES))


def _halve(module: nn.Module) -> None:
    """Round every weight; `half()` of diffusers' models warns, since one is not to run them so."""
    for parameter in module.parameters():
        parameter.data = parameter.data.half()
