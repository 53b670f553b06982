"""CLIP's vision tower as it is traced: to the last layer but one, which Wan 2.1 attends to.

Reference: transformers, `models/clip/modeling_clip.py`; diffusers, `encode_image` of
`pipelines/wan/pipeline_wan_i2v.py`. In half precision, linear layers, the patches' convolution and
attention are fp16; the residual stream and norms stay fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .denoiser import apply

if TYPE_CHECKING:
    from transformers import CLIPVisionModel

    from ...checkpoint import Component

FULL_PRECISION = ("norm", "class_embedding", "position_embedding")
PREFIX = "vision_model."
"""Before the names of parameters, or not: both are published."""


def other_names(component: Component) -> dict[str, str]:
    """The names in the files of parameters that the model calls with, or without, the prefix."""
    return {
        name.removeprefix(PREFIX) if name.startswith(PREFIX) else f"{PREFIX}{name}": name
        for name in component.files
    }


def set_precision(model: CLIPVisionModel, dtype: torch.dtype) -> None:
    """Cast the weights to the graph's precision, but for those that stay fp32."""
    for name, parameter in model.named_parameters():
        if not any(part in name for part in FULL_PRECISION):
            parameter.data = parameter.data.to(dtype)


class ImageEncoder(nn.Module):
    """image: float32 (batch, 3, size, size) in [-1, 1] → float32 (batch, 1 + patches, dim).

    The statistics that CLIP's images are normalised with are part of it.
    """

    def __init__(self, model: CLIPVisionModel, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model: Any = model
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Embed images: a token for the whole of each, then one for each patch."""
        vision = getattr(self.model, "vision_model", self.model)
        embeddings = vision.embeddings
        normal = (image * 0.5 + 0.5 - self.get_buffer("mean")) / self.get_buffer("std")
        patches = apply(embeddings.patch_embedding, normal).float().flatten(2).transpose(1, 2)
        whole = embeddings.class_embedding.expand(image.shape[0], 1, -1)
        x = torch.cat([whole, patches], dim=1) + embeddings.position_embedding.weight
        x = vision.pre_layrnorm(x)
        for layer in vision.encoder.layers[:-1]:
            x = x + attend(layer.self_attn, layer.layer_norm1(x))
            inner = apply(layer.mlp.fc1, layer.layer_norm2(x))
            x = x + apply(layer.mlp.fc2, layer.mlp.activation_fn(inner)).float()
        out: Tensor = x
        return out


def attend(attention: Any, x: Tensor) -> Tensor:
    """Self-attention, fp32 in and out."""
    heads = (attention.num_heads, -1)
    query, key, value = (
        torch.unflatten(apply(linear, x), 2, heads).transpose(1, 2)
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    out = F.scaled_dot_product_attention(query, key, value)
    return apply(attention.out_proj, out.transpose(1, 2).flatten(2)).float()
