"""diffusers' own Wan modules with random weights: eager, and compiled by PyTorch.

Weights are drawn on the CPU, so that they are the same wherever a bundle of them was exported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...engine.manifest import DECODERS
from ..wan_inputs import TIMESTEP, decoder_inputs, denoiser_inputs, prompt_inputs
from ..wan_layout import TEXT_TOKENS, Layout, Size, TextLayout, operations, text_operations
from .timing import forget_peak_memory, joules, peak_memory_gb, seconds

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
PRECISION = "bf16"
"""In which all is measured; the denoiser also in others."""
DTYPE = DTYPES[PRECISION]
CHANNELS = 16
FIRST, NEXT = DECODERS


def make_denoiser(layout: Layout, device: str, dtype: torch.dtype) -> Any:
    """A transformer with random weights."""
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    denoiser = WanTransformer3DModel(**layout.settings)
    return denoiser.to(device, dtype).eval().requires_grad_(False)


def half_denoiser(layout: Layout, device: str, dtype: torch.dtype) -> Any:
    """The same as `from_pretrained(torch_dtype=…)` gives it: parts that need it stay in fp32."""
    model = make_denoiser(layout, "cpu", torch.float32)
    exact = set(model._keep_in_fp32_modules)  # noqa: SLF001 (diffusers has no other name for it)
    for name, parameter in model.named_parameters():
        if exact.isdisjoint(name.split(".")):
            parameter.data = parameter.data.to(dtype)
    return model.to(device)


def make_text_encoder(layout: TextLayout, device: str, dtype: torch.dtype) -> Any:
    """A text encoder with random weights."""
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    encoder = UMT5EncoderModel(UMT5Config(**asdict(layout)))
    return encoder.to(device, dtype).eval().requires_grad_(False)


def make_vae(base: int, device: str, dtype: torch.dtype) -> Any:
    """Wan 2.1's autoencoder with random weights."""
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    model = AutoencoderKLWan(base_dim=base)
    return model.to(device, dtype).eval().requires_grad_(False)


@torch.no_grad()
def denoiser(
    device: str,
    layout: Layout,
    sizes: Sequence[Size],
    *,
    precision: str = PRECISION,
    compiled: bool = False,
) -> Iterator[tuple[dict[str, Any], NDArray[np.float32]]]:
    """One forward pass at batch 1, for each size.

    Returns:
        What `_figures` says, and peak memory in GB; then what came out.
    """
    model = half_denoiser(layout, device, DTYPES[precision])
    if compiled:
        model.compile(dynamic=False)  # for each size anew, as for one alone
    for size in sizes:
        forget_peak_memory(device)
        run = partial(model, **_feeds(device, layout, size, DTYPES[precision]))
        found = _figures(run, operations(layout, size.tokens), device, precision=precision)
        memory = {"peak_memory_gb": peak_memory_gb(device)}
        yield {"size": size.name, "tokens": size.tokens, **found, **memory}, _numpy(run())


def prediction(device: str, layout: Layout, size: Size) -> tuple[str, NDArray[np.float32]]:
    """A forward pass as exact as memory allows: in fp32 or in bf16, and what came out."""
    try:
        return "fp32", _predicted(device, layout, size, "fp32")
    except torch.OutOfMemoryError:
        pass  # and with it what it held
    return PRECISION, _predicted(device, layout, size, PRECISION)


@torch.no_grad()
def _predicted(device: str, layout: Layout, size: Size, precision: str) -> NDArray[np.float32]:
    model = half_denoiser(layout, device, DTYPES[precision])
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # the patches' convolution
        return _numpy(model(**_feeds(device, layout, size, DTYPES[precision])))


def _feeds(device: str, layout: Layout, size: Size, dtype: torch.dtype) -> dict[str, Any]:
    shape = (1, CHANNELS, *size.latent)
    latents, text = denoiser_inputs(shape, TEXT_TOKENS, layout.text_dim)
    return {
        "hidden_states": torch.from_numpy(latents).to(device, dtype),
        "timestep": torch.tensor([float(TIMESTEP)], device=device),
        "encoder_hidden_states": torch.from_numpy(text).to(device, dtype),
        "return_dict": False,
    }


def _numpy(outputs: tuple[torch.Tensor, ...]) -> NDArray[np.float32]:
    array: NDArray[np.float32] = outputs[0].float().cpu().numpy()
    return array


@torch.no_grad()
def text_encoder(device: str, layout: TextLayout) -> dict[str, Any]:
    """One prompt of full length, a quarter of it padding; figures as of a denoiser."""
    model = make_text_encoder(layout, device, DTYPE)
    ids, mask = (torch.from_numpy(array).to(device) for array in prompt_inputs(TEXT_TOKENS))
    found = _figures(
        lambda: model(input_ids=ids, attention_mask=mask), text_operations(layout), device
    )
    return {"tokens": TEXT_TOKENS, **found, "peak_memory_gb": peak_memory_gb(device)}


@torch.no_grad()
def vae(device: str, size: Size, *, base: int = 96) -> dict[str, Any]:
    """Wan 2.1's decoder: the first latent frame, a whole clip, and of that a later latent frame."""
    model = make_vae(base, device, DTYPE)
    latents = torch.from_numpy(decoder_inputs((1, CHANNELS, *size.latent))).to(device, DTYPE)
    counts, later = vae_operations(size, base=base), size.latent[0] - 1

    def measured(latents: torch.Tensor, work: float) -> dict[str, Any]:
        decode = partial(model.decode, latents, return_dict=False)
        return _figures(decode, work, device, repetitions=3)

    first = measured(latents[:, :, :1], counts[FIRST])
    whole = measured(latents, counts[FIRST] + later * counts[NEXT])
    return {
        "size": size.name,
        FIRST: first,
        "clip": whole,
        "later_frame_seconds": (whole["seconds"] - first["seconds"]) / later,
        "peak_memory_gb": peak_memory_gb(device),
    }


def vae_operations(size: Size, *, base: int = 96) -> dict[str, int]:
    """Of the decoder, for the first latent frame of a clip and for a later one."""
    model, (_, *picture) = make_vae(base, "meta", torch.float32), size.latent
    first, both = (decoding_operations(model, (1, CHANNELS, frames, *picture)) for frames in (1, 2))
    return {FIRST: first, NEXT: both - first}


def decoding_operations(model: Any, shape: Sequence[int]) -> int:
    """Floating-point operations of decoding latents, counted on tensors without values.

    Args:
        model: on the device "meta".
        shape: of the latents.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.decode(torch.empty(tuple(shape), device="meta"), return_dict=False)
    return int(counter.get_total_flops())


def _figures(
    work: Callable[[], object],
    operations: float,
    device: str,
    repetitions: int = 10,
    precision: str = PRECISION,
) -> dict[str, Any]:
    """Seconds, 10^12 operations a second, and joules."""
    spent = seconds(work, device, repetitions)
    return {
        "precision": precision,
        "seconds": spent,
        "tflop_s": operations / spent / 1e12,
        "joules": joules(work, device),
    }
