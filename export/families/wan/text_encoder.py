"""UMT5 as it is traced: transformers' weights, attention as one operation, buckets from a table.

Reference: transformers, `models/umt5/modeling_umt5.py`. In half precision only linear layers are
fp16, without `wo`: its input, a product of two activations, outgrows fp16 in trained models
(transformers keeps it in fp32 for that reason). The residual stream, norms, and attention, whose
scores are not scaled down, stay fp32: the encoder runs once a prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .denoiser import apply

if TYPE_CHECKING:
    from transformers import UMT5EncoderModel

FULL_PRECISION = ("norm", "wo.", "relative_attention_bias")
TIED = {
    "encoder.embed_tokens.weight": "shared.weight",
    "shared.weight": "encoder.embed_tokens.weight",
}
"""Names of one tensor: the checkpoint may have it under either."""


def set_precision(model: UMT5EncoderModel, dtype: torch.dtype) -> None:
    """Cast the weights to the graph's precision, but for those that stay fp32."""
    for name, parameter in model.named_parameters():
        if not any(part in name for part in FULL_PRECISION):
            parameter.data = parameter.data.to(dtype)


class TextEncoder(nn.Module):
    """(input_ids, attention_mask) int64 (batch, tokens) → float32 (batch, tokens, dim)."""

    def __init__(self, model: UMT5EncoderModel) -> None:
        super().__init__()
        self.model: Any = model
        self.reach = model.config.relative_attention_max_distance
        self.register_buffer("buckets", bucket_table(model.config), persistent=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed prompts; a token that the mask hides is not attended to."""
        encoder = self.model.encoder
        x: Tensor = encoder.embed_tokens(input_ids).float()
        distances = self.distances(input_ids.shape[1])
        hidden = torch.finfo(torch.float32).min
        mask = (1.0 - attention_mask.float())[:, None, None, :] * hidden
        for block in encoder.block:
            x = x + self.attend(block.layer[0], x, mask, distances)
            x = x + feed_forward(block.layer[1], x)
        return normalize(encoder.final_layer_norm, x)

    def distances(self, tokens: int) -> Tensor:
        """For each pair of tokens, the place of their distance in the table of buckets."""
        positions = torch.arange(tokens)
        relative = positions.unsqueeze(0) - positions.unsqueeze(1)
        places: Tensor = relative.clamp(-self.reach, self.reach) + self.reach
        return places

    def attend(self, layer: Any, x: Tensor, mask: Tensor, distances: Tensor) -> Tensor:
        """Self-attention with the layer's own bias of relative positions."""
        attention = layer.SelfAttention
        h = normalize(layer.layer_norm, x)
        query, key, value = (
            torch.unflatten(apply(linear, h).float(), 2, (attention.n_heads, -1)).transpose(1, 2)
            for linear in (attention.q, attention.k, attention.v)
        )
        by_distance = attention.relative_attention_bias(self.get_buffer("buckets"))
        bias = F.embedding(distances, by_distance).permute(2, 0, 1).unsqueeze(0)
        weights = (query @ key.transpose(-1, -2) + bias + mask).softmax(-1)
        out = weights @ value
        return apply(attention.o, out.transpose(1, 2).flatten(2)).float()


def bucket_table(config: Any) -> Tensor:
    """The bucket of every distance from -reach to reach; beyond, it is the last.

    A logarithm makes them: in a graph, another library's rounding would choose other buckets.
    """
    from transformers.models.umt5.modeling_umt5 import UMT5Attention

    attention = UMT5Attention(config)
    reach = config.relative_attention_max_distance
    buckets: Tensor = attention._relative_position_bucket(torch.arange(-reach, reach + 1))  # noqa: SLF001
    return buckets


def feed_forward(layer: Any, x: Tensor) -> Tensor:
    """The gated or plain feed-forward layer with its norm."""
    dense = layer.DenseReluDense
    h = normalize(layer.layer_norm, x)
    if hasattr(dense, "wi_0"):
        h = activate(dense.act, apply(dense.wi_0, h).float()) * apply(dense.wi_1, h).float()
    else:
        h = activate(dense.act, apply(dense.wi, h).float())
    return apply(dense.wo, h)


def activate(activation: nn.Module, x: Tensor) -> Tensor:
    """The activation, as one operation where it is UMT5's own."""
    from transformers.activations import NewGELUActivation

    if isinstance(activation, NewGELUActivation):
        return F.gelu(x, approximate="tanh")
    out: Tensor = activation(x)
    return out


def normalize(norm: Any, x: Tensor) -> Tensor:
    """RMS norm, in fp32 as its weights are."""
    return F.rms_norm(x, (x.shape[-1],), norm.weight, norm.variance_epsilon)
