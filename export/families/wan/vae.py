"""Wan's VAE as it is traced: one latent frame a call, with the past in explicit caches.

Reference: diffusers, `models/autoencoders/autoencoder_kl_wan.py`, whose `feat_cache` is a list that
is changed in place and holds one frame, two, none or the mark `'Rep'`. Here a cache always holds as
many frames as its convolution looks back (two, or one where it halves the frame rate), zeros where
there was no past: causal convolutions pad with zeros, so the result is the same.

In half precision, convolutions, attention and caches are fp16; the norms are computed in fp32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers.models.autoencoders import autoencoder_kl_wan as wan
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from diffusers import AutoencoderKLWan


class Stream:
    """What a call remembers of the last one: caches, taken and left in the order of the layers."""

    def __init__(self, caches: Iterable[Tensor] | None) -> None:
        self._past = None if caches is None else iter(caches)
        self.caches: list[Tensor] = []

    @property
    def first(self) -> bool:
        """Whether there was no call before."""
        return self._past is None

    def extend(self, x: Tensor, frames: int) -> Tensor:
        """Put the last frames of its past before x, and keep what the next call needs of both."""
        shape = (*x.shape[:2], frames, *x.shape[3:])
        past = x.new_zeros(shape) if self._past is None else next(self._past)
        whole = torch.cat([past, x], dim=2)
        self.caches.append(whole[:, :, -frames:])
        return whole

    def start(self, x: Tensor, frames: int) -> None:
        """Leave a cache of zeros: x is not part of what the layer looks back on."""
        self.caches.append(x.new_zeros(*x.shape[:2], frames, *x.shape[3:]))

    def skip(self, x: Tensor, frames: int) -> None:
        """Leave the last frames of x as they are."""
        self.caches.append(x[:, :, -frames:])


class Decoder(nn.Module):
    """(latents, *caches) → (frames, *new caches).

    latents: float32 (batch, channels, 1, height, width), not normalised; frames: float32
    (batch, 3, 1 or 4, 8·height, 8·width) in [-1, 1]. Without caches it is the first call.
    """

    def __init__(self, model: AutoencoderKLWan) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, latents: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        """Decode one latent frame."""
        stream = Stream(caches or None)
        decoder = self.model.decoder
        x = run_conv(self.model.post_quant_conv, latents.to(decoder.conv_in.weight.dtype), stream)
        x = run_conv(decoder.conv_in, x, stream)
        x = run_layer(decoder.mid_block, x, stream)
        for block in decoder.up_blocks:
            x = run_layer(block, x, stream)
        x = run_conv(decoder.conv_out, activate(decoder.norm_out, x), stream)
        frames = unpatchify(x, self.model.config.patch_size or 1).float()
        return frames.clamp(-1.0, 1.0), *stream.caches


class Encoder(nn.Module):
    """(frames, *caches) → (latents, *new caches).

    frames: float32 (batch, 3, 1 or 4, 8·height, 8·width) in [-1, 1]; latents: the mean of the
    posterior, float32 (batch, channels, 1, height, width), not normalised.
    """

    def __init__(self, model: AutoencoderKLWan) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, frames: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        """Encode the frames of one latent frame."""
        stream = Stream(caches or None)
        encoder = self.model.encoder
        x = patchify(frames, self.model.config.patch_size or 1).to(encoder.conv_in.weight.dtype)
        x = run_conv(encoder.conv_in, x, stream)
        for layer in encoder.down_blocks:
            x = run_layer(layer, x, stream)
        x = run_layer(encoder.mid_block, x, stream)
        x = run_conv(encoder.conv_out, activate(encoder.norm_out, x), stream)
        mean, _ = run_conv(self.model.quant_conv, x, stream).float().chunk(2, dim=1)
        return mean, *stream.caches


def run_layer(layer: Any, x: Tensor, stream: Stream) -> Tensor:
    """Run any layer of the encoder or decoder."""
    out: Tensor = RUNNERS[type(layer)](layer, x, stream)
    return out


def run_conv(conv: Any, x: Tensor, stream: Stream) -> Tensor:
    """A causal convolution: what it lacks in front is the past."""
    width, height, time = conv._padding[0], conv._padding[2], conv._padding[4]  # noqa: SLF001
    if time:
        x = stream.extend(x, time)
    return F.conv3d(x, conv.weight, conv.bias, conv.stride, (0, height, width))


def run_residual(block: Any, x: Tensor, stream: Stream) -> Tensor:
    """Two convolutions beside a shortcut."""
    shortcut = x
    if not isinstance(block.conv_shortcut, nn.Identity):
        shortcut = run_conv(block.conv_shortcut, x, stream)
    x = run_conv(block.conv1, activate(block.norm1, x), stream)
    x = run_conv(block.conv2, activate(block.norm2, x), stream)
    return x + shortcut


def run_mid(block: Any, x: Tensor, stream: Stream) -> Tensor:
    """Residual blocks with attention between them."""
    x = run_residual(block.resnets[0], x, stream)
    for attention, residual in zip(block.attentions, block.resnets[1:], strict=True):
        x = run_residual(residual, run_attention(attention, x, stream), stream)
    return x


def run_attention(block: Any, x: Tensor, stream: Stream) -> Tensor:
    """Attention over the pixels of each frame, with a single head."""
    del stream
    frames = x.transpose(1, 2).flatten(0, 1)
    qkv = block.to_qkv(normalize(block.norm, frames)).flatten(2).transpose(1, 2).unsqueeze(1)
    out = F.scaled_dot_product_attention(*qkv.chunk(3, dim=-1))
    out = block.proj(torch.unflatten(out.squeeze(1).transpose(1, 2), 2, x.shape[3:]))
    return x + torch.unflatten(out, 0, (x.shape[0], x.shape[2])).transpose(1, 2)


def run_up(block: Any, x: Tensor, stream: Stream) -> Tensor:
    """Residual blocks, then double the size."""
    for residual in block.resnets:
        x = run_residual(residual, x, stream)
    for upsampler in block.upsamplers or ():
        x = run_resample(upsampler, x, stream)
    return x


def run_residual_up(block: Any, x: Tensor, stream: Stream) -> Tensor:
    """The same beside a shortcut that repeats channels as pixels."""
    source = x
    for residual in block.resnets:
        x = run_residual(residual, x, stream)
    if block.upsampler is not None:
        x = run_resample(block.upsampler, x, stream)
    if block.avg_shortcut is not None:
        x = x + block.avg_shortcut(source, first_chunk=stream.first)
    return x


def run_residual_down(block: Any, x: Tensor, stream: Stream) -> Tensor:
    """Residual blocks, then halve the size, beside a shortcut that averages pixels as channels."""
    source = x
    for residual in block.resnets:
        x = run_residual(residual, x, stream)
    if block.downsampler is not None:
        x = run_resample(block.downsampler, x, stream)
    out: Tensor = x + block.avg_shortcut(source)
    return out


def run_resample(layer: Any, x: Tensor, stream: Stream) -> Tensor:
    """Halve or double the size, and in the 3D modes the frame rate of all but the first frame."""
    if layer.mode == "upsample3d":
        x = double_frames(layer.time_conv, x, stream)
    batch_and_time = (x.shape[0], x.shape[2])
    x = x.transpose(1, 2).flatten(0, 1)
    if layer.mode.startswith("upsample"):
        x = layer.resample[1](double_size(x))
    else:
        x = layer.resample(x)
    x = torch.unflatten(x, 0, batch_and_time).transpose(1, 2)
    if layer.mode == "downsample3d":
        x = halve_frames(layer.time_conv, x, stream)
    return x


def double_frames(conv: Any, x: Tensor, stream: Stream) -> Tensor:
    """Two frames of each, from twice the channels; the very first one stays alone."""
    if stream.first:
        stream.start(x, 2)
        return x
    x = torch.unflatten(run_conv(conv, x, stream), 1, (2, -1))
    return x.transpose(1, 2).transpose(2, 3).flatten(2, 3)


def halve_frames(conv: Any, x: Tensor, stream: Stream) -> Tensor:
    """One frame of two; the very first one stays as it is."""
    if stream.first:
        stream.skip(x, 1)
        return x
    return F.conv3d(stream.extend(x, 1), conv.weight, conv.bias, conv.stride)


def double_size(x: Tensor) -> Tensor:
    """Nearest-neighbour, twice the height and width: (batch, channels, height, width)."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def activate(norm: Any, x: Tensor) -> Tensor:
    """Norm, then SiLU."""
    return F.silu(normalize(norm, x))


def normalize(norm: Any, x: Tensor) -> Tensor:
    """RMS norm over the channels, computed in fp32, given in the precision of x."""
    wide = x.float()
    length = torch.linalg.vector_norm(wide, dim=1, keepdim=True).clamp_min(1e-12)
    out: Tensor = wide / length * (norm.scale * norm.gamma)
    return out.to(x.dtype)


def patchify(x: Tensor, size: int) -> Tensor:
    """(batch, 3, frames, height, width) → (batch, 3·size², frames, height/size, width/size)."""
    if size == 1:
        return x
    x = torch.unflatten(torch.unflatten(x, 4, (-1, size)), 3, (-1, size))
    return x.permute(0, 1, 6, 4, 2, 3, 5).flatten(1, 3)


def unpatchify(x: Tensor, size: int) -> Tensor:
    """The inverse of `patchify`."""
    if size == 1:
        return x
    x = torch.unflatten(x, 1, (-1, size, size))
    return x.permute(0, 1, 4, 5, 3, 6, 2).flatten(5, 6).flatten(3, 4)


RUNNERS: dict[type[nn.Module], Any] = {
    wan.WanResidualBlock: run_residual,
    wan.WanAttentionBlock: run_attention,
    wan.WanMidBlock: run_mid,
    wan.WanUpBlock: run_up,
    wan.WanResidualUpBlock: run_residual_up,
    wan.WanResidualDownBlock: run_residual_down,
    wan.WanResample: run_resample,
}


def set_precision(model: AutoencoderKLWan, dtype: torch.dtype) -> None:
    """Cast the weights to the graph's precision, but for the norms' gains."""
    for name, parameter in model.named_parameters():
        if "gamma" not in name:
            parameter.data = parameter.data.to(dtype)
