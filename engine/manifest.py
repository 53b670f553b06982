"""`bundle.json`: what a bundle says of itself. Its schema, and the check that it keeps to it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec

from ..errors import BundleError
from .consistency import inconsistencies

SCHEMA = 1
FILE_NAME = "bundle.json"
MAX_BYTES = 8 << 20

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Text = Annotated[str, msgspec.Meta(max_length=100_000)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
AxisName = Annotated[str, msgspec.Meta(max_length=200, pattern=r"^([1-9][0-9]{0,5}\*)?[A-Za-z_]+$")]
Axis = Annotated[int, msgspec.Meta(ge=1, le=1 << 31)] | AxisName
Precision = Literal["fp32", "fp16", "int8", "fp8", "int4"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
"""The most precise first."""
WHOLE = ("fp32", "fp16")
"""Those in which all weights are floating-point numbers of 16 bits at least."""

DType = Literal["float32", "float16", "int64", "int32", "bool"]
DENOISERS = ("denoiser", "denoiser_2")
"""The graphs of a bundle that predict velocities: one, or two where it has two experts."""
PROMPT, IMAGE = "encoder_hidden_states", "encoder_hidden_states_image"
"""Inputs of a denoiser that stay as they are from step to step: embeddings of both."""
TEXT_ENCODER = "text_encoder"
WEIGHTS_ALONE = "-weights"
"""How the names of formats end whose activations stay as they are."""
DECODERS = ("vae_decoder_first", "vae_decoder_next")
"""The graphs that turn latents into frames: the first latent frame, and each later one."""
VAES = (*DECODERS, "vae_encoder_first", "vae_encoder_next")
"""All graphs of an autoencoder."""


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A checked, read-only part of `bundle.json`."""


class TensorSpec(_Record, frozen=True, kw_only=True):
    """An input or output of a graph.

    An axis is a fixed length, the name of a dynamic one, or a multiple of that: `8*latent_height`.
    """

    name: Name
    dtype: DType
    shape: Annotated[tuple[Axis, ...], msgspec.Meta(max_length=8)]


class FileSpec(_Record, frozen=True, kw_only=True):
    """A file of the bundle: its length in bytes and its sha256 in hex."""

    size: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class LoraSpec(_Record, frozen=True, kw_only=True):
    """How a LoRA for the checkpoint finds the weights of a graph (see `engine/lora`).

    Attributes:
        rotary: how the names of modules end whose rows are permuted: in every head, even ones come
            first.
        aliases: names of modules → what the model's authors call them; `*` is a block's number.
    """

    rotary: Annotated[tuple[Name, ...], msgspec.Meta(max_length=100)]
    aliases: Annotated[dict[Name, Name], msgspec.Meta(max_length=1000)]


class GraphSpec(_Record, frozen=True, kw_only=True):
    """One ONNX graph: its files, its interface, and what LoRAs need to know, where it takes any."""

    file: Name
    data: tuple[Name, ...] = ()
    precision: Precision
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    lora: LoraSpec | None = None

    @property
    def takes_loras(self) -> bool:
        """Whether LoRAs can be added to its weights."""
        return self.lora is not None and self.precision in WHOLE


class TextSpec(_Record, frozen=True, kw_only=True):
    """How a prompt becomes token ids, and how its embedding is padded for the denoiser."""

    tokenizer: Name
    max_tokens: Count
    pad_token_id: Annotated[int, msgspec.Meta(ge=0)] = 0
    embedding_dim: Count


Sigma = Annotated[float, msgspec.Meta(gt=0, le=1)]


def _check_falling(sigmas: tuple[float, ...]) -> None:
    if any(following >= one for one, following in pairwise(sigmas)):
        raise ValueError("sigmas must fall, each below the one before")


class SchedulerSpec(_Record, frozen=True, kw_only=True, omit_defaults=True):
    """The sampler the checkpoint was published with; the settings are diffusers'.

    `sigmas` are Euler's before the shift, where a preset has its own.
    """

    name: Name
    shift: Annotated[float, msgspec.Meta(ge=0.01, le=1000)]
    shift_terminal: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    sigmas: tuple[Sigma, ...] = ()
    train_timesteps: Count = 1000

    def __post_init__(self) -> None:
        """Check the sigmas; msgspec makes its own error of a ValueError."""
        _check_falling(self.sigmas)


class DenoiserSpec(_Record, frozen=True, kw_only=True, omit_defaults=True):
    """The transformer's dimensions, from which its working memory is estimated.

    `image` says how it takes an image, if it does: `first_frame` as the first latent frame, with a
    timestep for each frame; `channels` beside the noise, as latents and a mask, and never without.
    `boundary` is there where there are two experts: below that share of
    the training timesteps `denoiser_2` predicts (diffusers' `boundary_ratio`).
    """

    hidden_size: Count
    ffn_dim: Count
    heads: Count
    layers: Count
    image: Literal["first_frame", "channels"] | None = None
    boundary: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None


class PreviewSpec(_Record, frozen=True, kw_only=True):
    """An affine map from a latent pixel to RGB in [-1, 1]: `matrix` (3, channels), `bias` (3,)."""

    matrix: Annotated[tuple[tuple[float, ...], ...], msgspec.Meta(min_length=3, max_length=3)]
    bias: Annotated[tuple[float, ...], msgspec.Meta(min_length=3, max_length=3)]


class LatentSpec(_Record, frozen=True, kw_only=True):
    """The latent space: channels, statistics (as diffusers' `latents_mean/std`), compression."""

    channels: Count
    mean: tuple[Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)], ...]
    std: tuple[Annotated[float, msgspec.Meta(gt=0, le=1e6)], ...]
    temporal_compression: Count
    spatial_compression: Count
    patch_size: Annotated[tuple[Count, ...], msgspec.Meta(min_length=3, max_length=3)]
    preview: PreviewSpec


class Defaults(_Record, frozen=True, kw_only=True, omit_defaults=True):
    """What a request gets that does not say.

    `guidance_scale_2` is that of `denoiser_2`; without one it is `guidance_scale`.
    """

    width: Count
    height: Count
    frames: Count
    fps: Annotated[float, msgspec.Meta(gt=0, le=240)]
    steps: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    guidance_scale: Annotated[float, msgspec.Meta(ge=0, le=100)]
    guidance_scale_2: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    negative_prompt: Text = ""


FULL_PRESET = "full"
"""How the default request itself is called among presets: the model alone, all of its steps."""


class PresetSpec(_Record, frozen=True, kw_only=True, omit_defaults=True):
    """A way to make clips: LoRAs of the bundle, and what changes in the default request with them.

    Attributes:
        loras: the bundle's files and their scales.
        steps: by default as the bundle's.
        guidance_scale: likewise.
        shift_terminal: Euler's last sigma before 0; likewise.
        sigmas: Euler's own, before the shift; likewise.
    """

    loras: dict[Name, Annotated[float, msgspec.Meta(ge=-100, le=100)]] = {}
    steps: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None
    guidance_scale: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    shift_terminal: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    sigmas: tuple[Sigma, ...] = ()

    def __post_init__(self) -> None:
        """Check what depends on each other; msgspec makes its own error of a ValueError."""
        _check_falling(self.sigmas)
        if self.sigmas and (self.shift_terminal is not None or self.steps is not None):
            raise ValueError("sigmas say how many steps there are and where they end, alone")


class Limits(_Record, frozen=True, kw_only=True):
    """The largest request the graphs accept."""

    max_width: Count
    max_height: Count
    max_frames: Count


class Source(_Record, frozen=True, kw_only=True):
    """Where the weights come from: the checkpoint's name, and its revision where it is known."""

    name: Name
    revision: Name | None = None
    license: Name | None = None


class Check(_Record, frozen=True, kw_only=True):
    """One line of `export --verify`: a figure, and the bound it was held to."""

    graph: Name
    case: Name
    metric: Name
    value: float
    bound: float
    passed: bool


class QualitySpec(_Record, frozen=True, kw_only=True):
    """How near a quantized bundle is to the one that it was made of, on the same inputs and noise.

    Errors are |difference| / |source| in the norm of all values.

    Attributes:
        errors: of the outputs of each graph that was changed.
        step_errors: of the denoisers' predictions at each step of the source's way.
        latent_errors: of the latents after each step, both on their own ways.
        psnr: of the frames, in dB, over all clips; at most 100.
        ssim: likewise, the mean.
        adherence: share of right answers about the clips; `None` for a model of another world.
        source_adherence: the source's.
        clips: how many were made.
        missed: what bounds are not kept, a phrase each; the user has accepted it.
    """

    errors: dict[Name, float]
    step_errors: tuple[float, ...]
    latent_errors: tuple[float, ...]
    psnr: float
    ssim: float
    adherence: float | None
    source_adherence: float | None
    clips: Count
    missed: tuple[Text, ...] = ()


class QuantizationSpec(_Record, frozen=True, kw_only=True):
    """What `mutoscope quantize` did.

    Attributes:
        source: the sha256 of the `bundle.json` that it began with.
        backend: which the denoisers are for.
        formats: by graph, the formats of its products by their names, with `*` or a range for the
            number of the block; all others are as they were.
        quality: what it cost.
    """

    source: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    backend: Name
    formats: dict[Name, dict[Name, Name]]
    quality: QualitySpec

    def backend_of(self, graph: str) -> str | None:
        """What a graph is for; one in weights alone is for ONNX Runtime, whatever the others are.

        `None` for a graph that is as it was: anything runs it.
        """
        formats = self.formats.get(graph)
        if formats is None:
            return None
        weights_alone = any(name.endswith(WEIGHTS_ALONE) for name in formats.values())
        return "onnxruntime" if weights_alone else self.backend


class Manifest(_Record, frozen=True, kw_only=True):
    """The whole of `bundle.json`.

    `presets` are ways to make clips by name; the first that the backend can have is what a request
    gets that does not say, `full` where there is none.
    """

    schema: Literal[1] = 1
    family: Name
    name: Name
    source: Source
    made_with: dict[str, str]
    graphs: dict[Name, GraphSpec]
    files: dict[Name, FileSpec]
    text: TextSpec
    scheduler: SchedulerSpec
    denoiser: DenoiserSpec
    latents: LatentSpec
    defaults: Defaults
    limits: Limits
    presets: dict[Name, PresetSpec] = {}
    checks: tuple[Check, ...] = ()
    quantization: QuantizationSpec | None = None


def read_manifest(folder: Path) -> tuple[Manifest, bytes]:
    """The checked manifest of a bundle's folder, and the bytes it was read from.

    Raises:
        BundleError: there is none, or one that is damaged or of another version.
    """
    try:
        raw = _read(folder)
    except OSError as error:
        raise BundleError(f"cannot read {folder / FILE_NAME}: {error.strerror}") from None
    manifest = _parse(raw, folder)
    for problem in inconsistencies(manifest):
        raise BundleError(f"{folder / FILE_NAME}: {problem}; export the bundle again")
    return manifest, raw


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `bundle.json`; `manifest.files` must already describe what lies in the folder."""
    raw = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    (folder / FILE_NAME).write_bytes(raw + b"\n")


def _read(folder: Path) -> bytes:
    path = folder / FILE_NAME
    if not folder.is_dir():
        raise BundleError(f"no bundle at {folder}: there is no such folder")
    if not path.is_file():
        raise BundleError(
            f"no bundle at {folder}: {FILE_NAME} is missing; "
            "make one with: mutoscope export CHECKPOINT BUNDLE"
        )
    if path.stat().st_size > MAX_BYTES:
        raise BundleError(f"{path} is larger than {MAX_BYTES >> 20} MB; it is not a bundle's")
    return path.read_bytes()


def _parse(raw: bytes, folder: Path) -> Manifest:
    where = folder / FILE_NAME
    try:
        head: Any = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{where} is not valid JSON ({error}); export the bundle again") from None
    version = head.get("schema") if isinstance(head, dict) else None
    if type(version) is not int or version < 1:
        raise BundleError(f"{where} does not say its schema version; it is not a Mutoscope bundle")
    if version > SCHEMA:
        raise BundleError(
            f"{where} has schema {version}, this version reads up to {SCHEMA}: upgrade mutoscope"
        )
    try:
        return msgspec.convert(head, Manifest)
    except msgspec.ValidationError as error:
        problem = " ".join(str(error).split())  # it quotes names as they are, line breaks too
        raise BundleError(f"{where}: {problem}; export the bundle again") from None
