"""How the parts of the GPU suite run, and what keeps one from running."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import UserError
from ..kernels.devices import open_device
from .gpu_engines import GPU_BACKENDS, found
from .suite import SkippedError
from .wan_layout import TINY, UMT5_XXL, WAN_1_3B, Layout, Size, TextLayout

BACKENDS = ("onnxruntime", *GPU_BACKENDS)
SIZES = (Size(416, 240, 17), Size(832, 480, 81))
TINY_SIZES = (Size(64, 32, 5), Size(32, 64, 9))
TEXT_LAYERS = 4
"""Of the 24 of UMT5-XXL: all of them take 9 GB and tell no more."""
VOCABULARY = 4096
"""Of that text encoder: a look-up costs the same in a table of any length."""


@dataclass(frozen=True)
class Setting:
    """How parts run.

    Attributes:
        work: a folder for what parts leave for others: a bundle, frames.
        small: tiny sizes, on the CPU where there is no GPU.
    """

    work: Path
    small: bool = False

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Of Wan's clips."""
        return TINY_SIZES if self.small else SIZES

    @property
    def layout(self) -> Layout:
        """Of the denoiser."""
        return TINY if self.small else WAN_1_3B

    @property
    def text(self) -> TextLayout:
        """Of the text encoder: of UMT5-XXL's width, with fewer layers."""
        if self.small:
            return TextLayout(TINY.text_dim, 2, 8, 32, 2, VOCABULARY)
        return replace(UMT5_XXL, num_layers=TEXT_LAYERS, vocab_size=VOCABULARY)

    @property
    def vae_base(self) -> int:
        """What the VAE's widths are multiples of."""
        return 4 if self.small else 96

    @property
    def bundle(self) -> Path:
        """Where the export leaves a bundle of Wan's layout."""
        return self.work / "wan"

    @property
    def vae_operations(self) -> Path:
        """Where the export leaves how many operations the VAE's decoder takes, in JSON."""
        return self.work / "wan-vae-operations.json"

    def prediction(self, size: Size) -> Path:
        """Where diffusers leaves its denoiser's output, which all others are set against."""
        return self.work / f"diffusers-prediction-{size.name}.npz"

    @property
    def reference(self) -> Path:
        """Where diffusers leaves its frames."""
        return self.work / "diffusers-clip.npy"


def torch_device(setting: Setting) -> str:
    """Where PyTorch computes: "cuda", or with tiny sizes "cpu".

    Raises:
        SkippedError: there is no GPU for it.
    """
    from .peers.timing import has_cuda

    if has_cuda():
        return "cuda"
    if setting.small:
        return "cpu"
    raise SkippedError("PyTorch finds no CUDA device")


def needs_device() -> None:
    """See that there is a GPU.

    Raises:
        SkippedError: there is none.
    """
    try:
        open_device()
    except UserError as error:
        raise SkippedError(str(error)) from None


def needs_backend(backend: str) -> None:
    """See that a backend can run here.

    Raises:
        SkippedError: it cannot, and why.
    """
    if backend in GPU_BACKENDS:
        what = found(backend)
        if not what["runs"]:
            raise SkippedError(what["reason"])
