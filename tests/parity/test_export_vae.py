"""The streaming VAE against diffusers', in PyTorch, for every build of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mutoscope.export.checkpoint import Checkpoint

torch = pytest.importorskip(
    "torch", reason="parity tests need the export extra: pip install -e '.[export]'"
)
diffusers = pytest.importorskip("diffusers", reason="parity tests need the export extra")
wan = pytest.importorskip("mutoscope.export.families.wan.graphs")

pytestmark = pytest.mark.parity

TOLERANCE = 2e-6
"""The same sums in another order: a few roundings of fp32 in each of some tens of layers."""

SHAPES = [(1, 1, 1, 1), (2, 2, 3, 5), (1, 4, 6, 2)]
"""Batch, latent frames, latent height and width."""


@pytest.fixture(
    scope="module",
    params=["four levels", "patchified", "residual", "TI2V-5B"],
    ids=lambda name: name.replace(" ", "-"),
)
def folder(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    make_checkpoint: Callable[..., Path],
) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("vae"), vae=request.param)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return diffusers.AutoencoderKLWan.from_pretrained(folder / "vae").eval()


def relative_error(got: Any, wanted: Any) -> float:
    return float((got.double() - wanted.double()).norm() / wanted.double().norm())


def stream(module: Any, pieces: Any) -> tuple[Any, list[list[tuple[int, ...]]]]:
    """Run call by call; the results in one tensor, and the shapes of the caches of every call."""
    results, shapes, caches = [], [], ()
    for piece in pieces:
        result, *caches = module(piece, *caches)
        results.append(result)
        shapes.append([tuple(cache.shape) for cache in caches])
    return torch.cat(results, dim=2), shapes


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_decoding_is_equal(
    folder: Path, theirs: Any, load_module: Callable[[Any], Any], shape: tuple[int, ...]
) -> None:
    batch, frames, height, width = shape
    module = load_module(wan.vae_graphs(*of(folder, wan.Decoding))[0])
    channels = theirs.config.z_dim
    latents = torch.randn(
        batch, channels, frames, height, width, generator=torch.Generator().manual_seed(0)
    )
    wanted = theirs.decode(latents, return_dict=False)[0]
    got, caches = stream(module, latents.split(1, dim=2))
    assert got.shape == wanted.shape
    assert got.shape[2] == 1 + 4 * (frames - 1)
    assert relative_error(got, wanted) <= TOLERANCE
    assert got.abs().max() <= 1
    assert all(shapes == caches[0] for shapes in caches)  # from the first call on


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_encoding_is_equal(
    folder: Path, theirs: Any, load_module: Callable[[Any], Any], shape: tuple[int, ...]
) -> None:
    batch, frames, height, width = shape
    scale = theirs.config.scale_factor_spatial
    module = load_module(wan.vae_graphs(*of(folder, wan.Encoding))[0])
    clip = torch.rand(
        batch, 3, 4 * frames - 3, scale * height, scale * width,
        generator=torch.Generator().manual_seed(0),
    ) * 2 - 1  # fmt: skip
    wanted = theirs.encode(clip).latent_dist.mode()
    got, caches = stream(module, clip.split([1] + [4] * (frames - 1), dim=2))
    assert got.shape == wanted.shape == (batch, theirs.config.z_dim, frames, height, width)
    assert relative_error(got, wanted) <= TOLERANCE
    assert all(shapes == caches[0] for shapes in caches)


@torch.no_grad()
def test_half_precision(folder: Path, theirs: Any, load_module: Callable[[Any], Any]) -> None:
    """PyTorch rounds every operation to fp16 here, by 5e-4 at most: ten of them, or a random walk.

    The residual build has the most layers.
    """
    channels = theirs.config.z_dim
    latents = torch.randn(1, channels, 3, 3, 4, generator=torch.Generator().manual_seed(0))
    full, half = (
        load_module(wan.vae_graphs(*of(folder, wan.Decoding, precision))[0])
        for precision in ("fp32", "fp16")
    )
    wanted, _ = stream(full, latents.split(1, dim=2))
    got, _ = stream(half, latents.split(1, dim=2))
    assert relative_error(got, wanted) <= 5e-3
    _, *caches = half(latents[:, :, :1])
    assert {cache.dtype for cache in caches} == {torch.float16}


def of(folder: Path, way: Any, precision: str = "fp32") -> tuple[Any, Any, Any]:
    checkpoint = Checkpoint.open(folder)
    return checkpoint, precision, way(checkpoint)
