"""The autoencoder over a whole clip in one pass, for training.

Diffusers goes through a clip frame by frame and hands causal convolutions their past in caches. The
same convolutions over all frames, with zeros before the first, give the same numbers: only the
resampling in time, which leaves the first frame out, has to be told apart. Half of the time, or a
third where it is compiled.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanCausalConv3d,
    WanResample,
    patchify,
    unpatchify,
)
from torch import Tensor
from torch.nn import functional


class WholeConv(WanCausalConv3d):  # type: ignore[misc]
    """Without a cache: only the past is padded by copying, the sides by the convolution itself."""

    def forward(self, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
        """As the layer that this extends."""
        if cache_x is not None:
            cached: Tensor = super().forward(x, cache_x)
            return cached
        columns, _, rows, _, past, _ = self._padding
        x = functional.pad(x, (0, 0, 0, 0, past, 0)) if past else x
        return functional.conv3d(x, self.weight, self.bias, self.stride, (0, rows, columns))


class WholeResample(WanResample):  # type: ignore[misc]
    """Without a cache: all frames but the first are halved or doubled in time."""

    def forward(self, x: Tensor, feat_cache: Any = None, feat_idx: Any = (0,)) -> Tensor:
        """As the layer that this extends."""
        in_time = feat_cache is None and x.shape[2] > 1
        if in_time and self.mode == "upsample3d":
            x = torch.cat([x[:, :, :1], _doubled(self.time_conv(x[:, :, 1:]))], 2)
        x = super().forward(x, feat_cache, feat_idx)
        if in_time and self.mode == "downsample3d":
            x = torch.cat([x[:, :, :1], self.time_conv(x)], 2)
        return x


def make_whole(vae: Any) -> Any:
    """The same `AutoencoderKLWan`, fit for `encode_whole` and `decode_whole` too."""
    for module in vae.modules():
        if type(module) is WanCausalConv3d:
            module.__class__ = WholeConv
        elif type(module) is WanResample:
            module.__class__ = WholeResample
    return vae


def encode_whole(vae: Any, video: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance of latents, each float32, of video (n, 3, 4k+1, height, width)."""
    hidden = video if vae.config.patch_size is None else patchify(video, vae.config.patch_size)
    mean, log_variance = vae.quant_conv(vae.encoder(hidden)).float().chunk(2, 1)
    return mean, log_variance.clamp(-30, 20)


def decode_whole(vae: Any, latents: Tensor) -> Tensor:
    """Video of latents, float32; not clamped, since no gradient comes back from past a clamp."""
    video: Tensor = vae.decoder(vae.post_quant_conv(latents), first_chunk=True)
    size = vae.config.patch_size
    return (video if size is None else unpatchify(video, size)).float()


def _doubled(x: Tensor) -> Tensor:
    """Two frames in the place of each, from twice the channels."""
    n, channels, frames, height, width = x.shape
    pairs = x.reshape(n, 2, channels // 2, frames, height, width)
    return pairs.permute(0, 2, 3, 1, 4, 5).reshape(n, channels // 2, 2 * frames, height, width)
