"""The autoencoder's stage: clips to latents of a 4x8x8th and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import UserError
from .clips import Crops, WholeClips, as_clips, as_video, foreground, held_out_clips
from .optimizers import Group
from .recipe import Recipe
from .sheets import sheet
from .training import Batch, Metrics, Phase, mix, parameters_of
from .whole import decode_whole, encode_whole, make_whole

GAIN = 1.0
RESIDUAL_GAIN = 0.3
LOG_VARIANCE = -6.0
FOREGROUND_WEIGHT = 2.0
MSE, L1, GRADIENT = 3.0, 0.5, 0.5
KL = (2e-4, 5e-5)
"""At the beginning and at the end."""

PASSES = encode_whole, decode_whole


class VaeTask:
    """Reconstruct clips; from the weights of `checkpoint` on, where it is given.

    Those have learnt what crops can teach, so that only whole clips follow.
    """

    name = "vae"

    def __init__(self, recipe: Recipe, device: str, checkpoint: Path | None = None) -> None:
        vae, shapes = recipe.vae, recipe.shapes
        self.vae = make_whole(make_vae(vae.model, recipe.seed)).to(device)
        if checkpoint is not None:
            begin_with(self.vae, checkpoint / "vae")
        self.groups = [Group(parameters_of(self.vae))]
        crops = Crops(shapes, vae.crops, vae.crop_size, vae.crop_frames, mix(recipe.seed, 1))
        whole = WholeClips(shapes, vae.clips, mix(recipe.seed, 2), vae.emphasis)
        self.phases = (Phase(crops, 0.0 if checkpoint else vae.crop_phase), Phase(whole))
        self._shown = held_out_clips(6, shapes[0])[0]
        default = shapes[0].frames, shapes[0].height, shapes[0].width
        self._frequent = {default, (vae.crop_frames, vae.crop_size, vae.crop_size)}
        self._compiled: tuple[Any, Any] | None = None

    def compile(self) -> None:
        """Compile both passes for the shapes that are met most; it takes a minute for each."""
        self._compiled = tuple(torch.compile(f, dynamic=False) for f in PASSES)  # type: ignore[assignment]

    def loss(
        self, batch: Batch, random: torch.Generator, progress: float
    ) -> tuple[Tensor, Metrics]:
        """The pixels' error and a thin prior on the latents."""
        clips = batch["clips"]
        frequent = tuple(clips.shape[1:4]) in self._frequent
        encode, decode = self._compiled if self._compiled and frequent else PASSES
        mean, log_variance = encode(self.vae, as_video(clips))
        noise = torch.randn(mean.shape, generator=random, device=mean.device)
        made = decode(self.vae, mean + noise * (0.5 * log_variance).exp())
        error, metrics = pixel_error(made, clips)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        prior = KL[0] * (KL[1] / KL[0]) ** min(progress, 1.0)
        return error + prior * kl, {**metrics, "kl": kl}

    def sheet(self) -> NDArray[np.uint8]:
        """Held-out clips, and beside them what the autoencoder makes of them."""
        return sheet(list(zip(self._shown, reconstruct(self.vae, self._shown), strict=True)))

    def save(self, folder: Path) -> None:
        """Write the autoencoder in diffusers' format."""
        save_vae(self.vae, folder)


def pixel_error(made: Tensor, clips: Tensor, squared: float = MSE) -> tuple[Tensor, Metrics]:
    """Of a video float32 (n, 3, frames, height, width) and the clips that it is to be.

    Pixels and edges; objects count three times. `squared` is the weight of the squared error.
    """
    error = made - as_video(clips)
    weight = 1 + FOREGROUND_WEIGHT * foreground(clips)
    weight = weight / weight.mean()
    mse = (weight * error**2).mean()
    l1 = (weight * error.abs()).mean()
    gradient = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    loss = squared * mse + L1 * l1 + GRADIENT * gradient
    return loss, {"mse": (error**2).mean(), "gradient": gradient}


def make_vae(model: Any, seed: int) -> Any:
    """A new `AutoencoderKLWan`, initialised so that signals keep their size through its depth.

    With PyTorch's own initialisation a network of this form takes long to find colours at all.
    """
    from diffusers import AutoencoderKLWan

    torch.manual_seed(seed)
    unknown = model["z_dim"]
    vae = AutoencoderKLWan(**model, latents_mean=[0.0] * unknown, latents_std=[1.0] * unknown)
    with torch.no_grad():
        for name, module in vae.named_modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                module.weight.mul_(RESIDUAL_GAIN if name.endswith("conv2") else GAIN)
                assert module.bias is not None
                module.bias.zero_()
        vae.quant_conv.bias[unknown:] = LOG_VARIANCE
        vae.quant_conv.weight[unknown:] *= 0.1
    return channels_last(vae)


def begin_with(model: Any, folder: Path) -> None:
    """Give a model of diffusers' the weights of one that was saved.

    Raises:
        UserError: they are of another model, or cannot be read.
    """
    try:
        saved = type(model).from_pretrained(folder)
        model.load_state_dict(saved.state_dict())
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--from: {folder} is not this recipe's model: {reason}") from None


def channels_last(vae: Any) -> Any:
    """The same autoencoder, its weights laid out as convolutions run fastest."""
    for module in vae.modules():
        if isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        elif isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return vae


def save_vae(vae: Any, folder: Path) -> None:
    """Write an autoencoder in diffusers' format, its weights laid out as others expect them."""
    for module in vae.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    vae.save_pretrained(folder)


@torch.no_grad()
def reconstruct(vae: Any, clips: NDArray[np.uint8], batch: int = 16) -> NDArray[np.uint8]:
    """Clips (n, frames, height, width, 3) through the latents' means and back."""
    device = next(vae.parameters()).device
    made = []
    for start in range(0, len(clips), batch):
        video = as_video(torch.from_numpy(clips[start : start + batch]).to(device))
        latents = vae.encode(video).latent_dist.mode()
        made.append(as_clips(vae.decode(latents).sample))
    return np.concatenate(made)


def psnr(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Of clips (n, frames, height, width, 3), each by itself, in dB: (n,)."""
    error = (first.astype(np.float64) - second) ** 2
    return np.asarray(10 * np.log10(255**2 / np.maximum(error.mean((1, 2, 3, 4)), 1e-9)))
