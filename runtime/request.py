"""What a caller may ask for, and the check that a bundle can give it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine import Tensor
from ..engine.manifest import Manifest
from ..errors import UserError, unknown
from ..kernels.guidance_weights import Variant
from . import checks
from .arrays import FindStream, Given, on_the_cpu, take
from .guidance_method import settle_method, variant_of
from .image import Image, read_image
from .schedulers import SCHEDULERS
from .text import clean
from .tiles import OVERLAP

MAX_PROMPT = 100_000
MAX_SEED = 2**64 - 1
MAX_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class Request:
    """One clip to make; `None` means the bundle's default.

    Attributes:
        prompt: what the clip shows.
        negative_prompt: what guidance leads away from.
        width: of the frames, in pixels.
        height: of the frames, in pixels.
        frames: how many; a multiple of the VAE's temporal compression, plus one.
        fps: frames a second of the finished clip.
        steps: of the denoising loop.
        guidance_scale: of classifier-free guidance; 1 or less switches it off.
        guidance_scale_2: that of the second denoiser, for a bundle with two; if only
            `guidance_scale` is given, it is the same.
        guidance_method: how the two predictions of a guided step become one: `cfg` as ever;
            `cfg-zero` after the unconditional one was scaled to the conditional one, and with no
            velocity in the first steps (CFG-Zero*, Fan et al., 2025); `apg` without the part of
            their difference that only makes predictions larger (adaptive projected guidance, Sadat
            et al., 2024). By default `cfg`.
        zero_init_steps: of `cfg-zero`: how many steps have no velocity; by default 1.
        apg_eta: of `apg`: how much is kept of the difference's part parallel to the conditional
            prediction, 0 to 1; by default 0.
        apg_norm_threshold: of `apg`: the greatest norm of the difference, over the whole clip; by
            default 0: any.
        guidance_rescale: how far guided predictions get the spread of those under the prompt
            alone, 0 to 1: less glaring at high scales (Lin et al., 2023). By default 0.
        guidance_interval: the first guided step and the one after the last, as shares of all steps;
            by default (0, 1): all are guided.
        sequential_guidance: the two predictions of a guided step are made one after the other, in
            less memory; by default that is so where memory is short.
        step_cache: steps are foretold instead of computed while the velocity is expected to change
            by less than this, relative to its own size; by default 0: all are computed.
        seed: of the initial noise; by default another one each time.
        scheduler: `euler`, `unipc` or `dpmpp-2m`.
        shift: of the flow-matching sigmas; a larger one spends more steps on high noise.
        shift_terminal: Euler's last sigma before 0, to which the others are stretched; for
            denoisers of few steps.
        sigmas: Euler's noise levels before the shift, at most 1 and falling, without the last 0; as
            many steps are made. For denoisers that were distilled for certain ones.
        vae_tile: the side in pixels of the tiles that frames are decoded in; less memory for large
            ones. By default 0: whole frames.
        latents: initial noise, float32 (1, channels, latent frames, latent height, latent width);
            by default drawn from the seed. NumPy's, or any array that speaks DLPack or
            `__cuda_array_interface__`; a GPU's goes in without a copy where the backend is a GPU's.
        image: what the clip begins with: a PNG, JPEG or WebP file, or uint8 (height, width, 3), of
            the same libraries (a GPU's is copied: images are scaled on the CPU); it
            is scaled until it covers the frame, and its centre is cut out. Some bundles cannot take
            one, and some need one.
    """

    prompt: str
    negative_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    fps: float | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    guidance_scale_2: float | None = None
    guidance_method: str | None = None
    zero_init_steps: int | None = None
    apg_eta: float | None = None
    apg_norm_threshold: float | None = None
    guidance_rescale: float | None = None
    guidance_interval: tuple[float, float] | None = None
    sequential_guidance: bool | None = None
    step_cache: float | None = None
    seed: int | None = None
    scheduler: str | None = None
    shift: float | None = None
    shift_terminal: float | None = None
    sigmas: Sequence[float] | None = None
    vae_tile: int | None = None
    latents: Given | None = None
    image: str | os.PathLike[str] | Given | None = None

    @classmethod
    def of(cls, prompt: str, options: dict[str, Any]) -> Request:
        """A request from a prompt and keywords.

        Raises:
            UserError: an option that does not exist; names the nearest one.
        """
        known = [field.name for field in dataclasses.fields(cls) if field.name != "prompt"]
        for name in options:
            if name not in known:
                raise UserError(unknown("option", name, known))
        return cls(prompt=prompt, **options)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A request with every value settled, and checked against a bundle.

    The attributes are those of `Request`, the image cut to the frame's size, and `latent_shape`:
    (1, channels, frames, height, width). `guidance_scale_2` is `None` where there is one denoiser,
    `shift_terminal` where sigmas are not stretched, `sigmas` where they are uniform, and options of
    guidance methods where another one is used.
    """

    prompt: str
    negative_prompt: str
    width: int
    height: int
    frames: int
    fps: float
    steps: int
    guidance_scale: float
    guidance_scale_2: float | None
    guidance_method: str
    zero_init_steps: int | None
    apg_eta: float | None
    apg_norm_threshold: float | None
    guidance_rescale: float
    guidance_interval: tuple[float, float]
    sequential_guidance: bool
    step_cache: float
    seed: int
    scheduler: str
    shift: float
    shift_terminal: float | None
    sigmas: tuple[float, ...] | None
    vae_tile: int
    latents: Tensor | None
    image: Image | None
    latent_shape: tuple[int, ...]

    @property
    def guidance_scales(self) -> tuple[float, ...]:
        """Of each denoiser."""
        if self.guidance_scale_2 is None:
            return (self.guidance_scale,)
        return self.guidance_scale, self.guidance_scale_2

    @property
    def guided(self) -> bool:
        """Whether any step needs the unconditional prediction too."""
        return max(self.guidance_scales) > 1

    @property
    def variant(self) -> Variant | None:
        """What guidance weighs the predictions with; `None` for plain guidance."""
        return variant_of(self.guidance_method, self.apg_eta, self.apg_norm_threshold)

    def record(self) -> dict[str, Any]:
        """The values as they go into files; given latents by their hash, in place of the seed."""
        arrays = {"latents", "latent_shape", "image"}
        names = [field.name for field in dataclasses.fields(self) if field.name not in arrays]
        settings = {name: getattr(self, name) for name in names}
        settings = {name: value for name, value in settings.items() if value is not None}
        if self.image is not None:
            settings["image"] = self.image.record()
        if self.latents is None:
            return settings
        noise = hashlib.sha256(np.ascontiguousarray(self.latents).tobytes()).hexdigest()
        return {**settings, "seed": None, "latents_sha256": noise}


def settle(request: Request, manifest: Manifest, find_stream: FindStream = on_the_cpu) -> Settings:
    """Fill in a bundle's defaults and check every value.

    Args:
        request: what is asked for.
        manifest: the bundle's.
        find_stream: gives the stream that a GPU's arrays are taken to.

    Raises:
        UserError: one line that names the value, says what is wrong and what would do.
    """
    given = {k: v for k, v in vars(request).items() if v is not None}
    asked = {**_defaults(manifest), **given}
    guidance = checks.number("guidance_scale", asked["guidance_scale"], 0, 100)
    scheduler = _scheduler(asked["scheduler"])
    sigmas = _sigmas(request, manifest, scheduler)
    steps = len(sigmas) if sigmas else _steps(asked["steps"])
    second = _second_guidance(request, manifest, guidance)
    method = settle_method(given, steps, guided=max(guidance, second or 0) > 1)
    width, height, frames = check_size(manifest, asked["width"], asked["height"], asked["frames"])
    shape = latent_shape(manifest, width, height, frames)
    return Settings(
        prompt=check_prompt(asked.get("prompt")),
        negative_prompt=checks.text("negative_prompt", asked["negative_prompt"], MAX_PROMPT),
        width=width,
        height=height,
        frames=frames,
        fps=checks.number("fps", asked["fps"], 0, 240, open_below=True),
        steps=steps,
        guidance_scale=guidance,
        guidance_scale_2=second,
        **vars(method),
        guidance_rescale=checks.number("guidance_rescale", asked["guidance_rescale"], 0, 1),
        guidance_interval=checks.interval("guidance_interval", asked["guidance_interval"], 0, 1),
        sequential_guidance=checks.truth("sequential_guidance", asked["sequential_guidance"]),
        step_cache=checks.number("step_cache", asked["step_cache"], 0, 10),
        seed=checks.integer("seed", asked["seed"], 0, MAX_SEED),
        scheduler=scheduler,
        shift=checks.number("shift", asked["shift"], 0.01, 1000),
        shift_terminal=None if sigmas else _terminal(request, manifest, scheduler),
        sigmas=sigmas,
        vae_tile=_tile(asked["vae_tile"], manifest),
        latents=_latents(request.latents, shape, find_stream),
        image=_image(request.image, manifest, (width, height), find_stream),
        latent_shape=shape,
    )


def check_size(manifest: Manifest, width: Any, height: Any, frames: Any) -> tuple[int, int, int]:
    """A width and height in pixels, and a number of frames, that a bundle can make.

    Raises:
        UserError: one that it cannot; names the nearest two.
    """
    latents, limits = manifest.latents, manifest.limits
    grid = latents.spatial_compression
    return (
        checks.multiple("width", width, grid * latents.patch_size[2], limits.max_width),
        checks.multiple("height", height, grid * latents.patch_size[1], limits.max_height),
        checks.frame_count(frames, latents.temporal_compression, limits.max_frames),
    )


def latent_shape(manifest: Manifest, width: int, height: int, frames: int) -> tuple[int, ...]:
    """(1, channels, frames, height, width) of the latents of a clip."""
    latents = manifest.latents
    return (
        1,
        latents.channels,
        (frames - 1) // latents.temporal_compression + 1,
        height // latents.spatial_compression,
        width // latents.spatial_compression,
    )


def _defaults(manifest: Manifest) -> dict[str, Any]:
    default = manifest.defaults
    return {
        **{name: getattr(default, name) for name in default.__struct_fields__},
        "scheduler": manifest.scheduler.name,
        "shift": manifest.scheduler.shift,
        "guidance_rescale": 0.0,
        "guidance_interval": (0.0, 1.0),
        "sequential_guidance": False,
        "step_cache": 0.0,
        "vae_tile": 0,
        "seed": secrets.randbits(32),
    }


def check_prompt(value: Any) -> str:
    """A prompt that says something.

    Raises:
        UserError: not text, too long or empty.
    """
    prompt = checks.text("prompt", value, MAX_PROMPT)
    if not clean(prompt):
        raise UserError('the prompt is empty; say what to show, e.g. "a red circle moves up"')
    return prompt


def _terminal(request: Request, manifest: Manifest, scheduler: str) -> float | None:
    given = request.shift_terminal
    if scheduler == "euler":
        wanted = manifest.scheduler.shift_terminal if given is None else given
        return None if wanted is None else checks.number("shift_terminal", wanted, 0.001, 0.999)
    if given is not None:
        raise UserError(f"shift_terminal is for the scheduler euler, not for {scheduler}")
    return None


def _steps(value: Any) -> int:
    return checks.integer("steps", value, 1, MAX_STEPS)


def _sigmas(request: Request, manifest: Manifest, scheduler: str) -> tuple[float, ...] | None:
    """As given; or the bundle's, unless something else is said of the steps."""
    if request.sigmas is None:
        theirs = manifest.scheduler.sigmas
        if scheduler != "euler" or not theirs or request.shift_terminal is not None:
            return None
        fitting = request.steps is None or _steps(request.steps) == len(theirs)
        return theirs if fitting else None
    given = checks.falling("sigmas", request.sigmas, 1, count=MAX_STEPS)
    if scheduler != "euler":
        raise UserError(f"sigmas are for the scheduler euler, not for {scheduler}")
    if request.shift_terminal is not None:
        raise UserError("give sigmas, which say where they end, or shift_terminal, not both")
    if request.steps is not None:
        steps = _steps(request.steps)
        if steps != len(given):
            raise UserError(f"there are {len(given)} sigmas, and steps is {steps}: leave steps out")
    return given


def _scheduler(name: Any) -> str:
    known = checks.text("scheduler", name, 100)
    if known not in SCHEDULERS:
        raise UserError(unknown("scheduler", known, SCHEDULERS))
    return known


def _tile(value: Any, manifest: Manifest) -> int:
    scale = manifest.latents.spatial_compression
    side = checks.integer("vae_tile", value, 0, max(manifest.limits.max_width, OVERLAP * scale))
    if side and (side % scale or side < OVERLAP * scale):
        raise UserError(
            f"vae_tile must be a multiple of {scale} and at least {OVERLAP * scale}, not {side}"
        )
    return side


def _second_guidance(request: Request, manifest: Manifest, first: float) -> float | None:
    """The second denoiser's guidance scale: as given, or else the first's if that is given."""
    value = request.guidance_scale_2
    if manifest.denoiser.boundary is None:
        if value is None:
            return None
        raise UserError(
            f"the bundle {manifest.name} has one denoiser: give guidance_scale alone; "
            "guidance_scale_2 is for two, as in Wan 2.2 A14B"
        )
    if value is None and request.guidance_scale is None:
        value = manifest.defaults.guidance_scale_2
    return first if value is None else checks.number("guidance_scale_2", value, 0, 100)


def _image(
    value: Any, manifest: Manifest, size: tuple[int, int], find_stream: FindStream
) -> Image | None:
    way = manifest.denoiser.image
    if value is None and way == "channels":
        raise UserError(
            f"the bundle {manifest.name} makes clips from an image: give one with --image FILE, "
            "or image=… in Python"
        )
    if value is None:
        return None
    if way is None:
        raise UserError(
            f"the bundle {manifest.name} makes clips from text alone; an image needs a bundle of "
            "an image-to-video checkpoint, such as Wan 2.2 TI2V-5B"
        )
    return read_image(value, *size, find_stream)


def _latents(value: Any, shape: tuple[int, ...], find_stream: FindStream) -> Tensor | None:
    """As they were given, checked; a GPU's are brought down for that, once."""
    if value is None:
        return None
    array = take("latents", value, find_stream)
    if array.shape != shape or array.dtype != "float32":
        raise UserError(
            f"latents must be float32 {list(shape)}, not {array.dtype} {list(array.shape)}"
        )
    if not np.isfinite(np.asarray(array)).all():
        raise UserError("latents hold NaN or infinite values")
    return array
