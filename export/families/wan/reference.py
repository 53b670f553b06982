"""diffusers' and transformers' own Wan, in fp32, to compare a bundle with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ....engine.manifest import DENOISERS
from ...checkpoint import Checkpoint
from ...verify import Array, ClipRequest, Comparison, Run
from ...weights import to_numpy
from . import settings
from .settings import TRANSFORMERS

TEXTS = ((1, 9, 9), (2, 40, 17), (1, 512, 512))
"""Batch, tokens, and how many of them the last prompt has."""
PATCHES = ((1, 1, 2, 3, 512), (2, 3, 4, 2, 77), (1, 2, 5, 7, 20))
"""Batch, frames, height and width in patches, and tokens of text."""
IMAGE_TOKENS = 512
"""Of text: what diffusers' attention takes for the text where there is an image before it."""
CLIPS = ((1, 2, 3), (2, 4, 2), (1, 5, 5))
"""Batch, latent height and width; each has three latent frames."""


class WanReference:
    """The checkpoint's pipeline and weights; diffusers makes them fp32 if nothing is said."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from diffusers import (
            AutoencoderKLWan,
            WanImageToVideoPipeline,
            WanPipeline,
            WanTransformer3DModel,
        )
        from transformers import UMT5EncoderModel

        path = checkpoint.path
        embedded = settings.image_embedded(checkpoint)
        self.by_channels = settings.image_way(checkpoint) == "channels"
        kind: Any = WanImageToVideoPipeline if self.by_channels else WanPipeline
        self.pipeline: Any = kind.from_pretrained(
            path,
            text_encoder=UMT5EncoderModel.from_pretrained(
                path / "text_encoder", dtype=torch.float32, use_safetensors=True
            ),
            vae=AutoencoderKLWan.from_pretrained(path / "vae", use_safetensors=True),
            **{
                name: WanTransformer3DModel.from_pretrained(path / name, use_safetensors=True)
                for name in TRANSFORMERS
                if checkpoint.has(name)
            },
            **(_image_parts(checkpoint) if embedded else {}),
        )
        if embedded:
            self.pipeline.image_processor = Processor(checkpoint)
        self.pipeline.set_progress_bar_config(disable=True)
        self._random = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def compare(self, graphs: Sequence[str], run: Run) -> Iterator[Comparison]:
        """Run what there is of the bundle's graphs beside the pipeline's modules."""
        by_model: dict[str, Callable[[Run], Iterator[Comparison]]] = {
            "text_encoder": self._text_encoder,
            "image_encoder": self._image_encoder,
            **{
                name: partial(self._denoiser, name, getattr(self.pipeline, folder))
                for name, folder in zip(DENOISERS, TRANSFORMERS, strict=True)
            },
            "vae_decoder": self._decoder,
            "vae_encoder": self._encoder,
        }
        for model, compare in by_model.items():
            if model in graphs or {f"{model}_first", f"{model}_next"} <= set(graphs):
                yield from compare(run)

    @torch.no_grad()
    def clip(self, request: ClipRequest) -> NDArray[np.uint8]:
        """The frames of a clip, from the request's noise."""
        pipeline: Any = self.pipeline
        image: dict[str, Any] = {}
        if request.image is not None:
            pipeline = self.pipeline if self.by_channels else self._image_pipeline()
            image = {
                "image": torch.from_numpy(request.image / 255.0).float().permute(2, 0, 1)[None]
            }
        made = pipeline(
            prompt=request.prompt,
            width=request.width,
            height=request.height,
            num_frames=request.frames,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance_scale,
            guidance_scale_2=request.guidance_scale_2,
            latents=torch.from_numpy(request.latents),
            max_sequence_length=request.max_sequence_length,
            **image,
        )
        frames: NDArray[np.uint8] = np.rint(made.frames[0] * 255).astype(np.uint8)
        return frames

    def _image_pipeline(self) -> Any:
        from diffusers import WanImageToVideoPipeline

        parts = ("tokenizer", "text_encoder", "vae", "scheduler", "transformer")
        pipeline: Any = WanImageToVideoPipeline(
            **{name: getattr(self.pipeline, name) for name in parts}, expand_timesteps=True
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _text_encoder(self, run: Run) -> Iterator[Comparison]:
        model = self.pipeline.text_encoder
        for batch, tokens, length in TEXTS:
            ids = torch.randint(0, model.config.vocab_size, (batch, tokens), generator=self._random)
            mask = torch.ones_like(ids)
            mask[-1, length:] = 0
            got = run("text_encoder", arrays(input_ids=ids, attention_mask=mask))["prompt_embeds"]
            wanted = model(ids, mask).last_hidden_state.numpy()
            shown = mask.numpy() == 1  # the rest is cut off
            case = f"{batch} x {tokens} tokens"
            yield Comparison("text_encoder", case, got[shown], wanted[shown])

    def _image_encoder(self, run: Run) -> Iterator[Comparison]:
        model, processor = self.pipeline.image_encoder, self.pipeline.image_processor
        for batch in (1, 2):
            image = self._noise(batch, 3, processor.size, processor.size).clamp(-1, 1)
            pixels = processor.normalize(image * 0.5 + 0.5)
            wanted = model(pixels, output_hidden_states=True).hidden_states[-2].numpy()
            got = run("image_encoder", arrays(image=image))["image_embeds"]
            case = f"{batch} x {processor.size} x {processor.size}"
            yield Comparison("image_encoder", case, got, wanted)

    def _embedding_shape(self) -> tuple[int, int]:
        config = self.pipeline.image_encoder.config
        return (config.image_size // config.patch_size) ** 2 + 1, config.hidden_size

    def _denoiser(self, name: str, model: Any, run: Run) -> Iterator[Comparison]:
        for batch, *patches, length in PATCHES:
            tokens = length if model.config.image_dim is None else IMAGE_TOKENS
            sizes = [n * p for n, p in zip(patches, model.config.patch_size, strict=True)]
            feeds = {
                "hidden_states": self._noise(batch, model.config.in_channels, *sizes),
                "timestep": self._timesteps(batch, patches[0]),
                "encoder_hidden_states": self._noise(batch, tokens, model.config.text_dim),
            }
            if model.config.image_dim is not None:
                seen = self._noise(batch, *self._embedding_shape())
                feeds["encoder_hidden_states_image"] = seen
            got = run(name, arrays(**feeds))["sample"]
            if feeds["timestep"].dim() == 2:
                feeds["timestep"] = feeds["timestep"].repeat_interleave(math.prod(patches[1:]), 1)
            wanted = model(**feeds, return_dict=False)[0].numpy()
            case = f"{batch} x {' x '.join(map(str, sizes))}, {tokens} tokens"
            yield Comparison(name, case, got, wanted)

    def _timesteps(self, batch: int, frames: int) -> Tensor:
        """(batch,), or (batch, frames) with a first frame that is given."""
        if not self.pipeline.config.expand_timesteps:
            return torch.rand(batch, generator=self._random) * 1000
        timesteps = torch.rand(batch, frames, generator=self._random) * 1000
        timesteps[0, 0] = 0
        return timesteps

    def _decoder(self, run: Run) -> Iterator[Comparison]:
        vae = self.pipeline.vae
        for batch, height, width in CLIPS:
            latents = self._noise(batch, vae.config.z_dim, 3, height, width)
            wanted = vae.decode(latents, return_dict=False)[0]
            pieces, results = torch.split(latents, 1, 2), torch.split(wanted, [1, 4, 4], 2)
            yield from stream(run, "vae_decoder", ("latents", pieces), ("frames", results))

    def _encoder(self, run: Run) -> Iterator[Comparison]:
        vae = self.pipeline.vae
        scale = vae.config.scale_factor_spatial
        for batch, height, width in CLIPS:
            frames = self._noise(batch, 3, 9, height * scale, width * scale).clamp(-1, 1)
            wanted = vae.encode(frames).latent_dist.mode()
            pieces, results = torch.split(frames, [1, 4, 4], 2), torch.split(wanted, 1, 2)
            yield from stream(run, "vae_encoder", ("frames", pieces), ("latents", results))

    def _noise(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._random)


class Processor:
    """CLIP's input, cut and scaled as the runtime does it: resampling is not what is compared."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.size, _, _ = settings.image_tokens(checkpoint)
        self._mean, self._std = (
            torch.tensor(values).view(3, 1, 1) for values in settings.image_statistics(checkpoint)
        )

    def normalize(self, pixels: Tensor) -> Tensor:
        """From [0, 1] to CLIP's own space."""
        return (pixels - self._mean) / self._std

    def __call__(self, images: Tensor, return_tensors: str) -> Any:
        """Prepare one image, (1, 3, height, width) in [0, 1], as diffusers asks for it."""
        from transformers import BatchFeature

        from ....runtime.image import cover

        del return_tensors
        pixels = (images[0] * 255).round().byte().permute(1, 2, 0).numpy()
        seen = torch.from_numpy(cover(pixels, self.size, self.size)).permute(2, 0, 1) / 255
        return BatchFeature({"pixel_values": self.normalize(seen)[None]})


def _image_parts(checkpoint: Checkpoint) -> dict[str, Any]:
    from transformers import CLIPVisionModel

    folder = checkpoint.path / "image_encoder"
    encoder = CLIPVisionModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    return {"image_encoder": encoder, "image_processor": None}


def stream(
    run: Run,
    model: str,
    source: tuple[str, Sequence[Tensor]],
    result: tuple[str, Sequence[Tensor]],
) -> Iterator[Comparison]:
    """Run *first* on the first piece and *next* on the others, caches handed on; compare all."""
    caches: dict[str, Array] = {}
    for index, (piece, wanted) in enumerate(zip(source[1], result[1], strict=True)):
        graph = f"{model}_{'next' if index else 'first'}"
        outputs = run(graph, {source[0]: to_numpy(piece), **caches})
        batch, _, frames, height, width = piece.shape
        case = f"{batch} x {frames} x {height} x {width}" + (f", call {index + 1}" if index else "")
        yield Comparison(graph, case, outputs.pop(result[0]), wanted.numpy())
        caches = {name.removeprefix("new_"): cache for name, cache in outputs.items()}


def arrays(**tensors: Tensor) -> dict[str, Array]:
    """Tensors as arrays, by name."""
    return {name: to_numpy(tensor) for name, tensor in tensors.items()}
