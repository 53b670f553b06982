"""Wan's DiT as it is traced: diffusers' weights, with RoPE and attention rewritten for inference.

Reference: diffusers, `models/transformers/transformer_wan.py`. Rotary pairs lie half a head apart
here instead of side by side, which does not change the result: the rows of `to_q`, `to_k` and their
norms are permuted to match (see `rotary_halves`).

In half precision, linear layers and attention are fp16; the residual stream, norms, modulation,
RoPE and the timestep embedding are fp32.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .lora import ROTATED

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

FULL_PRECISION = ("time_embedder", "scale_shift_table", "norm")


def rotary_halves(name: str, weight: Tensor, head_dim: int) -> Tensor:
    """Permute the rows that make rotary queries and keys: in every head, even ones first.

    Scores are sums over a head's channels, and the norm's mean is one over all channels: neither
    depends on their order, as long as queries and keys have the same.
    """
    if not name.rpartition(".")[0].endswith(ROTATED):
        return weight
    order = torch.cat([torch.arange(0, head_dim, 2), torch.arange(1, head_dim, 2)])
    heads = torch.unflatten(weight, 0, (-1, head_dim))
    return heads[:, order].flatten(0, 1)


def set_precision(model: WanTransformer3DModel, dtype: torch.dtype) -> None:
    """Cast the weights to the graph's precision, but for those that stay fp32."""
    for name, parameter in model.named_parameters():
        if not any(part in name for part in FULL_PRECISION):
            parameter.data = parameter.data.to(dtype)


class Denoiser(nn.Module):
    """(hidden_states, timestep, encoder_hidden_states[, …_image]) → sample, all float32.

    hidden_states and sample: (batch, channels, frames, height, width) latents, of which
    hidden_states may have more; timestep: (batch,), or (batch, frames) where each latent frame has
    its own; encoder_hidden_states: (batch, tokens, text dim); encoder_hidden_states_image: (batch,
    tokens, image dim), where the model attends to an image.
    """

    def __init__(self, model: WanTransformer3DModel) -> None:
        super().__init__()
        self.model: Any = model
        self.patch_size: tuple[int, int, int] = tuple(model.config.patch_size)
        self.rope = Rope(model)
        self.timesteps = Timesteps(model.config.freq_dim)

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_image: Tensor | None = None,
    ) -> Tensor:
        """Predict the flow's velocity.

        With a timestep for each frame the patches stay in rows, (batch, frames, patches of a frame,
        channels), over which a frame's modulation is broadcast.
        """
        model = self.model
        sizes = [n // p for n, p in zip(hidden_states.shape[2:], self.patch_size, strict=True)]
        rope = self.rope(sizes)
        x = apply(model.patch_embedding, hidden_states).float().flatten(2).transpose(1, 2)
        if timestep.dim() == 2:
            x = torch.unflatten(x, 1, (sizes[0], -1))
        temb = model.condition_embedder.time_embedder(self.timesteps(timestep))
        modulation = apply(model.condition_embedder.time_proj, F.silu(temb)).float()
        modulation = torch.unflatten(modulation, -1, (6, -1))
        text = apply_all(
            _text_layers(model.condition_embedder.text_embedder), encoder_hidden_states
        )
        image = None
        if encoder_hidden_states_image is not None:
            image = embed_image(
                model.condition_embedder.image_embedder, encoder_hidden_states_image
            )
        for block in model.blocks:
            x = run_block(block, x, (text, image), modulation, rope)
        shift, scale = (model.scale_shift_table + temb.unsqueeze(-2)).chunk(2, dim=-2)
        x = apply(model.proj_out, model.norm_out(x) * (1 + scale) + shift).float()
        return self.unpatchify(x.flatten(1, -2), sizes)

    def unpatchify(self, x: Tensor, sizes: list[int]) -> Tensor:
        """(batch, patches, patch volume · channels) → (batch, channels, frames, height, width)."""
        x = torch.unflatten(torch.unflatten(x, 1, sizes), -1, (*self.patch_size, -1))
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)


class Timesteps(nn.Module):
    """Sinusoidal embedding of timesteps, cosines first: (…) → (…, channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        exponents = -math.log(10000) * torch.arange(half, dtype=torch.float32) / half
        self.register_buffer("frequencies", exponents.exp(), persistent=False)

    def forward(self, timestep: Tensor) -> Tensor:
        """Embed."""
        angles = timestep.unsqueeze(-1) * self.get_buffer("frequencies")
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


class Rope(nn.Module):
    """Cosines and sines of every patch, (1, patches, 1, head dim / 2), from tables by axis."""

    def __init__(self, model: WanTransformer3DModel) -> None:
        super().__init__()
        from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

        config = model.config
        reference = WanRotaryPosEmbed(
            config.attention_head_dim, config.patch_size, config.rope_max_seq_len
        )
        self.widths = [reference.t_dim // 2, reference.h_dim // 2, reference.w_dim // 2]
        self.register_buffer("cos", reference.freqs_cos[:, ::2].clone(), persistent=False)
        self.register_buffer("sin", reference.freqs_sin[:, ::2].clone(), persistent=False)

    def forward(self, sizes: list[int]) -> tuple[Tensor, Tensor]:
        """The angles of so many patches along each axis."""
        cos, sin = self.get_buffer("cos"), self.get_buffer("sin")
        return self.spread(cos, sizes), self.spread(sin, sizes)

    def spread(self, table: Tensor, sizes: list[int]) -> Tensor:
        """A table by position → one by patch, in the order of the flattened patches."""
        parts = []
        for axis, part in enumerate(torch.split(table, self.widths, dim=1)):
            shape = [1, 1, 1, -1]
            shape[axis] = sizes[axis]
            parts.append(part[: sizes[axis]].view(shape).expand(*sizes, -1))
        return torch.cat(parts, dim=-1).flatten(0, 2).unsqueeze(0).unsqueeze(2)


def embed_image(embedder: Any, image: Tensor) -> Tensor:
    """An image's embedding in the width of the blocks, fp32."""
    first, last = _feed_forward_layers(embedder.ff)
    hidden = F.gelu(apply(first, embedder.norm1(image)))
    out: Tensor = embedder.norm2(apply(last, hidden).float())
    return out


def run_block(
    block: Any,
    x: Tensor,
    given: tuple[Tensor, Tensor | None],
    modulation: Tensor,
    rope: tuple[Tensor, Tensor],
) -> Tensor:
    """One transformer block; x is the fp32 residual stream, its patches flat or in rows.

    What is given is the text, and the image where there is one.
    """
    shift, scale, gate, ff_shift, ff_scale, ff_gate = (block.scale_shift_table + modulation).chunk(
        6, dim=-2
    )
    h = block.norm1(x) * (1 + scale) + shift
    x = x + attend(block.attn1, h, h, rope=rope) * gate
    text, image = given
    x = x + attend(block.attn2, block.norm2(x), text, image=image)
    h = block.norm3(x) * (1 + ff_scale) + ff_shift
    out: Tensor = x + apply_all(_feed_forward_layers(block.ffn), h).float() * ff_gate
    return out


def attend(
    attention: Any,
    x: Tensor,
    source: Tensor,
    *,
    rope: tuple[Tensor, Tensor] | None = None,
    image: Tensor | None = None,
) -> Tensor:
    """Attention of x on a source (itself or the text), fp32 in and out; rows are seen as one.

    With an image, what the same queries find in it is added.
    """
    rows = x.shape[1:-1]
    x, source = x.flatten(1, -2), source.flatten(1, -2)
    heads = (attention.heads, -1)
    query = torch.unflatten(attention.norm_q(apply(attention.to_q, x).float()), 2, heads)
    key = torch.unflatten(attention.norm_k(apply(attention.to_k, source).float()), 2, heads)
    value = torch.unflatten(apply(attention.to_v, source), 2, heads)
    if rope is not None:
        query, key = rotate(query, *rope), rotate(key, *rope)
    query, key, value = (part.to(value.dtype).transpose(1, 2) for part in (query, key, value))
    out = F.scaled_dot_product_attention(query, key, value)
    if image is not None:
        out = out + find_in_image(attention, query, image)
    out = apply(attention.to_out[0], out.transpose(1, 2).flatten(2)).float()
    return out if len(rows) == 1 else torch.unflatten(out, 1, rows)


def find_in_image(attention: Any, query: Tensor, image: Tensor) -> Tensor:
    """Attention on an image by the text's queries, (batch, heads, tokens, channels).

    It is written out: TensorRT-RTX 1.7 crashes as it builds two `Attention` nodes of one query.
    """
    key = attention.norm_added_k(apply(attention.add_k_proj, image).float()).to(query.dtype)
    value = apply(attention.add_v_proj, image)
    key, value = (
        torch.unflatten(part, 2, (attention.heads, -1)).transpose(1, 2) for part in (key, value)
    )
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(2, 3)
    out: Tensor = scores.float().softmax(-1).to(value.dtype) @ value
    return out


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (first half, second half) of each head by the patch's angles."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def apply(layer: Any, x: Tensor) -> Tensor:
    """Run a linear layer or convolution in the precision of its weights."""
    out: Tensor = layer(x.to(layer.weight.dtype))
    return out


def apply_all(layers: tuple[Any, ...], x: Tensor) -> Tensor:
    """Linear, GELU, linear."""
    first, last = layers
    return apply(last, F.gelu(apply(first, x), approximate="tanh"))


def _text_layers(embedder: Any) -> tuple[Any, Any]:
    return embedder.linear_1, embedder.linear_2


def _feed_forward_layers(feed_forward: Any) -> tuple[Any, Any]:
    return feed_forward.net[0].proj, feed_forward.net[2]
