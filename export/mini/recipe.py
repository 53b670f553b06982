"""The recipe: every setting that the trained weights depend on, for a CPU and for a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...errors import UserError, unknown

TIME_STEPS = 1000
"""The denoiser's time runs from 0 (clean) to this (noise), as in all Wan models."""

SPATIAL = 8
TEMPORAL = 4
"""How many pixels, and how many frames after the first, lie in a latent one."""


MAIN = ("vae", "text", "latents", "decoder", "dit", "checkpoint")
"""From nothing to the checkpoint."""
SIBLINGS = ("judge", "distill", "lora")
"""From the trained denoiser."""
TUNED = ("distill", "lora")
"""Those that leave a LoRA, and can go on with one."""
BEFORE = {"judge": ("latents",), "distill": ("latents", "judge")}
"""What siblings of a finished checkpoint need first; a style draws its own clips."""


@dataclass(frozen=True)
class ClipShape:
    """A clip's size in pixels and frames, and how large a share of the clips has it."""

    width: int
    height: int
    frames: int
    share: float = 1.0

    @property
    def name(self) -> str:
        """As in "96x96x17"."""
        return f"{self.width}x{self.height}x{self.frames}"

    @property
    def tokens(self) -> int:
        """How many tokens the denoiser sees, at its patches of 2x2."""
        frames, height, width = self.latent
        return frames * (height // 2) * (width // 2)

    @property
    def latent(self) -> tuple[int, int, int]:
        """Frames, height and width of the latents."""
        frames = 1 + (self.frames - 1) // TEMPORAL
        return frames, self.height // SPATIAL, self.width // SPATIAL


SHAPES = (
    ClipShape(96, 96, 17, 0.45),
    ClipShape(64, 96, 17, 0.06),
    ClipShape(96, 64, 17, 0.06),
    ClipShape(128, 128, 17, 0.06),
    ClipShape(96, 96, 1, 0.31),
    ClipShape(96, 96, 33, 0.06),
)
"""The first one is the default."""


@dataclass(frozen=True)
class Budget:
    """How long a stage lasts: so many minutes, or so many steps where they are given."""

    minutes: float = 1.0
    steps: int | None = None

    def progress(self, step: int, seconds: float) -> float:
        """The share of the budget that is used up, from 0."""
        if self.steps is not None:
            return step / self.steps if self.steps else 1.0
        return seconds / (60 * self.minutes) if self.minutes else 1.0


@dataclass(frozen=True)
class Optimisation:
    """AdamW and its schedule: warm-up, a plateau, then a cosine down to a fiftieth.

    Attributes:
        learning_rate: the highest.
        ema: the decay of the averaged weights, which are the ones kept.
        warmup: in steps.
        plateau: until this share of the budget the rate stays at its highest.
        weight_decay: as AdamW takes it.
    """

    learning_rate: float
    ema: float
    warmup: int = 50
    plateau: float = 0.0
    weight_decay: float = 0.01


@dataclass(frozen=True)
class VaeRecipe:
    """The autoencoder: small crops at first, then whole clips while the rate falls.

    Attributes:
        model: what `AutoencoderKLWan` is made with.
        crops: how many crops a batch has in the first phase.
        crop_size: their side in pixels.
        crop_frames: their length, 4n+1; 9 at least, so that the convolutions' caches are met in the
            state that they are in for the rest of a clip.
        clips: how many clips of 96x96x17 a batch has in the second; of other shapes in proportion.
        crop_phase: the share of the budget spent on crops.
        emphasis: how much oftener whole clips are shown that have a word in them which is hard to
            rebuild; of several words the hardest counts.
    """

    model: Mapping[str, Any]
    optimisation: Optimisation
    crops: int
    clips: int
    crop_size: int = 32
    crop_frames: int = 9
    crop_phase: float = 0.25
    emphasis: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TextRecipe:
    """The text encoder, before it meets the denoiser.

    Attributes:
        model: what `UMT5Config` is made with, but for the size of the vocabulary.
        captions: how many a batch has.
    """

    model: Mapping[str, Any]
    optimisation: Optimisation
    captions: int = 96


@dataclass(frozen=True)
class DenoiserRecipe:
    """The denoiser, with the text encoder learning beside it.

    Attributes:
        model: what `WanTransformer3DModel` is made with, but for the text encoder's width.
        batch: how many latents of the default shape a batch has; of other shapes in proportion.
        text_rate: the text encoder's learning rate, as a share of the denoiser's.
        caption_dropout: how often a caption is left empty, for guidance.
        given: how often the first latent frame is given.
        shift: how far the sampled times lean to the noisy end.
        images: the share of batches that are single frames at first: what things look like is
            learnt from them at a fifth of the work.
        image_phase: until this share of the budget; not where a trained denoiser goes on.
        later_images: their share afterwards.
        emphasis: how much oftener scenes are shown that have a word in them which is hard to
            draw; of several words the hardest counts.
    """

    model: Mapping[str, Any]
    optimisation: Optimisation
    batch: int
    text_rate: float = 0.3
    caption_dropout: float = 0.1
    given: float = 0.25
    shift: float = 3.0
    images: float = 0.8
    image_phase: float = 0.4
    later_images: float = 0.12
    emphasis: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TuneRecipe:
    """A stage that sets out from the trained denoiser: few steps, or a style.

    Attributes:
        batch: as the denoiser's.
    """

    optimisation: Optimisation
    batch: int


@dataclass(frozen=True)
class Recipe:
    """All of it. The same recipe and seed on the same machine give the same weights.

    Attributes:
        minutes: each stage's budget.
        shapes: of the clips that are trained on; the first is the default.
        shard: how many clips are encoded at a time.
        workers: processes that draw clips and captions; with none the training draws them itself.
    """

    vae: VaeRecipe
    decoder: Optimisation
    text: TextRecipe
    denoiser: DenoiserRecipe
    judge: TuneRecipe
    distilled: TuneRecipe
    lora: TuneRecipe
    minutes: Mapping[str, float]
    seed: int = 0
    shapes: tuple[ClipShape, ...] = SHAPES
    shard: int = 64
    workers: int = 0


VAE_MODEL = {
    "base_dim": 24,
    "decoder_base_dim": 32,
    "z_dim": 16,
    "dim_mult": [1, 2, 2],
    "is_residual": True,
    "num_res_blocks": 1,
    "temperal_downsample": [True, True],
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
}
TEXT_MODEL = {
    "d_model": 128,
    "d_kv": 32,
    "d_ff": 256,
    "num_layers": 3,
    "num_heads": 4,
    "dropout_rate": 0.0,
    "feed_forward_proj": "gated-gelu",
}
DENOISER_MODEL = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 6,
    "attention_head_dim": 32,
    "in_channels": 16,
    "out_channels": 16,
    "freq_dim": 128,
    "ffn_dim": 576,
    "num_layers": 8,
    "cross_attn_norm": True,
    "rope_max_seq_len": 256,
}

FINE = {"sun": 4.0, "star": 2.0, "car": 2.0, "small": 2.0, "orbit": 2.0, "bounce": 2.0}
"""What the autoencoder lost most often when all scenes were shown alike: the thin, the fast."""

HARD = {
    "sun": 2.5,
    "star": 1.5,
    "car": 1.5,
    "small": 1.5,
    "orbit": 1.5,
    "spin": 1.5,
    "pan left": 6.0,
    "pan right": 6.0,
    "zoom in": 6.0,
    "zoom out": 6.0,
}
"""What the model got wrong most often when all scenes were shown alike."""

CPU = Recipe(
    vae=VaeRecipe(VAE_MODEL, Optimisation(2e-3, ema=0.99), crops=14, clips=2, emphasis=FINE),
    decoder=Optimisation(1e-3, ema=0.995),
    text=TextRecipe(TEXT_MODEL, Optimisation(2e-3, ema=0.99, weight_decay=0.0)),
    denoiser=DenoiserRecipe(
        DENOISER_MODEL, Optimisation(1e-3, ema=0.998, plateau=0.1), batch=24, emphasis=HARD
    ),
    judge=TuneRecipe(Optimisation(2e-3, ema=0.99), batch=32),
    distilled=TuneRecipe(Optimisation(1e-3, ema=0.99), batch=8),
    lora=TuneRecipe(Optimisation(1e-3, ema=0.98), batch=24),
    minutes={
        "vae": 60.0,
        "text": 4.0,
        "latents": 13.0,
        "decoder": 20.0,
        "dit": 80.0,
        "judge": 6.0,
        "distill": 40.0,
        "lora": 10.0,
    },
)
"""Two cores, three hours to the checkpoint."""

GPU = replace(
    CPU,
    vae=replace(
        CPU.vae,
        crops=320,
        clips=96,
        crop_size=48,
        optimisation=Optimisation(1.5e-3, ema=0.998),
    ),
    text=replace(CPU.text, captions=512),
    denoiser=replace(
        CPU.denoiser, batch=256, optimisation=Optimisation(1.5e-3, ema=0.999, plateau=0.3)
    ),
    judge=TuneRecipe(Optimisation(2e-3, ema=0.99), batch=256),
    distilled=TuneRecipe(Optimisation(1e-3, ema=0.99), batch=64),
    lora=TuneRecipe(Optimisation(1e-3, ema=0.99), batch=128),
    minutes={
        "vae": 7.0,
        "text": 1.0,
        "latents": 1.5,
        "decoder": 1.5,
        "dit": 8.0,
        "judge": 0.5,
        "distill": 5.0,
        "lora": 1.0,
    },
    shard=256,
    workers=14,
)
"""One data-centre GPU with 16 cores beside it, 19 minutes to the checkpoint."""


def recipe_for(device: str, seed: int) -> Recipe:
    """The recipe for a device."""
    return replace(GPU if device == "cuda" else CPU, seed=seed)


def budgets(
    recipe: Recipe, names: tuple[str, ...], minutes: float | None, steps: int | None
) -> dict[str, Budget]:
    """The stages' budgets: the recipe's, or `minutes` shared out alike, or `steps` for each."""
    whole = sum(recipe.minutes.get(name, 0.0) for name in names)
    scale = 1.0 if minutes is None or not whole else minutes / whole
    return {name: Budget(time * scale, steps) for name, time in recipe.minutes.items()}


def chosen(stage: str, adopted: bool = False) -> tuple[str, ...]:
    """The stages that a name on the command line stands for.

    Where a checkpoint is `adopted`, what a sibling needs of it comes first.

    Raises:
        UserError: it stands for none.
    """
    if stage not in ("all", *MAIN, *SIBLINGS):
        raise UserError(unknown("stage", stage, ["all", *MAIN, *SIBLINGS]))
    if stage == "all":
        return MAIN
    begun = ("vae", "decoder", *SIBLINGS)
    if adopted and stage not in begun:
        raise UserError(f"--from is for all, {', '.join(begun)}, not for {stage!r}")
    return (*BEFORE.get(stage, ()), stage) if adopted else (stage,)
