"""Zero padding of the text, as Wan attends to it, at a fraction of its length.

Wan's cross attention sees the caption's states and then zeros up to 512 tokens, unmasked. N equal
keys weigh as much as one key with a bias of log N, so one zero and a bias stand for all of them,
exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor

LENGTHS = (32, 64, 128, 226, 512, 512)
"""Total lengths that are trained on; 512 is what Wan's pipelines pad to, so it comes twice."""


class PaddedText(WanAttnProcessor):  # type: ignore[misc]
    """Cross attention with a bias on its keys, where one is set."""

    def __init__(self) -> None:
        super().__init__()
        self.bias: Tensor | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: Any = None,
    ) -> Tensor:
        """As the processor that this extends."""
        bias = None if self.bias is None else self.bias.to(hidden_states.dtype)
        attended: Tensor = super().__call__(
            attn, hidden_states, encoder_hidden_states, bias, rotary_emb
        )
        return attended


def make_paddable(denoiser: Any) -> PaddedText:
    """Let all of a denoiser's cross attentions share one bias."""
    processor = PaddedText()
    for block in denoiser.blocks:
        block.attn2.set_processor(processor)
    return processor


@contextmanager
def padded(processor: PaddedText, mask: Tensor, lengths: Tensor) -> Iterator[None]:
    """Within, captions count as zero-padded to `lengths` (n,); `mask` (n, tokens) is theirs.

    The states given to the denoiser need one zero at least behind each caption.
    """
    processor.bias = key_bias(mask, lengths)[:, None, None]
    try:
        yield
    finally:
        processor.bias = None


def key_bias(mask: Tensor, lengths: Tensor) -> Tensor:
    """What is added to the keys' scores, (n, tokens): words 0, one zero log N, the others none."""
    used = mask.sum(1, keepdim=True)
    position = torch.arange(mask.shape[1], device=mask.device)
    pads = (lengths[:, None] - used).float().log()
    beyond = torch.full_like(pads, -torch.inf)
    return torch.where(position < used, 0.0, torch.where(position == used, pads, beyond))
