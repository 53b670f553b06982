"""Bundles without weights: enough for every test that needs no engine."""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest
from cpu_device import CpuStream
from mutoscope.engine.bundle import Bundle, describe_files
from mutoscope.engine.manifest import (
    Defaults,
    DenoiserSpec,
    GraphSpec,
    LatentSpec,
    Limits,
    Manifest,
    PreviewSpec,
    SchedulerSpec,
    Source,
    TensorSpec,
    TextSpec,
    write_manifest,
)
from quiet import turn

CHANNELS = 4
GPU, NEEDS_GPU = Path(__file__).with_name("gpu"), "needs an NVIDIA GPU: pytest --gpu"
WORDS = ["<pad>", "</s>", "<unk>", "a", "red", "blue", "circle", "square", "moves", "up"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUTOSCOPE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _own_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line that runs in this process leaves signals and hooks to pytest."""
    monkeypatch.setattr(signal, "signal", lambda kind, handler: None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)


@pytest.fixture
def bundle_folder(tmp_path: Path) -> Path:
    """A bundle whose graphs only the null backend can open."""
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def image_bundle_folder(tmp_path: Path) -> Path:
    """The same of a model that takes an image."""
    return write_bundle(tmp_path / "image-bundle", image="first_frame")


@pytest.fixture
def channel_bundle_folder(tmp_path: Path) -> Path:
    """The same of a model that takes an image as channels, and attends to its embedding."""
    return write_bundle(tmp_path / "channel-bundle", image="channels")


@pytest.fixture
def expert_bundle_folder(tmp_path: Path) -> Path:
    """The same of a model with two experts."""
    return write_bundle(tmp_path / "expert-bundle", boundary=0.5)


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    return Bundle.open(bundle_folder)


@pytest.fixture(scope="session")
def cpu_stream(tmp_path_factory: pytest.TempPathFactory) -> CpuStream:
    """A device whose kernels run on this CPU."""
    return CpuStream(tmp_path_factory.mktemp("cuda_on_cpu"))


def write_bundle(folder: Path, *, image: str | None = None, boundary: float | None = None) -> Path:
    folder.mkdir(parents=True)
    graphs = _graphs(image=image)
    if boundary is not None:
        graphs["denoiser_2"] = msgspec.structs.replace(
            graphs["denoiser"], file="denoiser_2.onnx", data=("denoiser_2.data",)
        )
    for graph in graphs.values():
        (folder / graph.file).write_bytes(b"no graph: " + graph.file.encode())
        for name in graph.data:
            (folder / name).write_bytes(b"no weights: " + name.encode())
    _write_tokenizer(folder / "tokenizer.json")
    write_manifest(folder, manifest(folder, graphs, image=image, boundary=boundary))
    return folder


def manifest(
    folder: Path, graphs: dict[str, GraphSpec], *, image: str | None, boundary: float | None
) -> Manifest:
    return Manifest(
        family="wan",
        name="null",
        source=Source(name="made for tests"),
        made_with={"mutoscope": "0"},
        graphs=graphs,
        files=describe_files(folder),
        text=TextSpec(tokenizer="tokenizer.json", max_tokens=8, embedding_dim=6),
        scheduler=SchedulerSpec(name="euler", shift=3.0),
        denoiser=DenoiserSpec(
            hidden_size=8,
            ffn_dim=16,
            heads=2,
            layers=1,
            image=image,  # type: ignore[arg-type]
            boundary=boundary,
        ),
        latents=LatentSpec(
            channels=CHANNELS,
            mean=(0.0,) * CHANNELS,
            std=(1.0,) * CHANNELS,
            temporal_compression=4,
            spatial_compression=8,
            patch_size=(1, 2, 2),
            preview=PreviewSpec(matrix=((0.1,) * CHANNELS,) * 3, bias=(0.0, 0.0, 0.0)),
        ),
        defaults=Defaults(width=32, height=32, frames=5, fps=12, steps=3, guidance_scale=4),
        limits=Limits(max_width=512, max_height=512, max_frames=161),
    )


def _graphs(*, image: str | None) -> dict[str, GraphSpec]:
    latents = tensor("latents", "batch", CHANNELS, 1, "height", "width")
    caches = [tensor(f"cache.{i}", "batch", 3, 2, "height", "width") for i in range(2)]
    new_caches = [msgspec.structs.replace(c, name=f"new_{c.name}") for c in caches]

    def frames(count: int) -> TensorSpec:
        return tensor("frames", "batch", 3, count, "8*height", "8*width")

    taken = CHANNELS if image != "channels" else 2 * CHANNELS + 4
    sample = ("frames", "height", "width")
    times = ("batch", "frames") if image == "first_frame" else ("batch",)
    encoders = {
        "vae_encoder_first": graph("vae_encoder_first", [frames(1)], [latents, *new_caches])
    }
    seen = []
    if image == "channels":
        seen.append(tensor("encoder_hidden_states_image", "batch", 5, 7))
        encoders["vae_encoder_next"] = graph(
            "vae_encoder_next", [frames(4), *caches], [latents, *new_caches]
        )
        encoders["image_encoder"] = graph(
            "image_encoder",
            [tensor("image", "batch", 3, 16, 16)],
            [tensor("image_embeds", "batch", 5, 7)],
        )
    return {
        **(encoders if image else {}),
        "text_encoder": graph(
            "text_encoder",
            [tensor(n, "batch", "tokens", dtype="int64") for n in ("input_ids", "attention_mask")],
            [tensor("prompt_embeds", "batch", "tokens", 6)],
        ),
        "denoiser": graph(
            "denoiser",
            [
                tensor("hidden_states", "batch", taken, *sample),
                tensor("timestep", *times),
                tensor("encoder_hidden_states", "batch", "tokens", 6),
                *seen,
            ],
            [tensor("sample", "batch", CHANNELS, *sample)],
        ),
        "vae_decoder_first": graph("vae_decoder_first", [latents], [frames(1), *new_caches]),
        "vae_decoder_next": graph("vae_decoder_next", [latents, *caches], [frames(4), *new_caches]),
    }


def tensor(name: str, *shape: int | str, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)  # type: ignore[arg-type]


def graph(name: str, inputs: list[TensorSpec], outputs: list[TensorSpec]) -> GraphSpec:
    return GraphSpec(
        file=f"{name}.onnx",
        data=(f"{name}.data",),
        precision="fp32",
        inputs=tuple(inputs),
        outputs=tuple(outputs),
    )


def _write_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.save(str(path))


@pytest.fixture(scope="session")
def bundle_manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return Bundle.open(write_bundle(tmp_path_factory.mktemp("session") / "bundle")).manifest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test is a failure")
    parser.addoption("--gpu", action="store_true", help="kernels on an NVIDIA GPU too")


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start jobs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with turn(alone=item.get_closest_marker("quiet") is not None):
        return (yield)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if collection_path != GPU or config.getoption("--gpu"):
        return None
    paths = (config.invocation_params.dir / arg.partition("::")[0] for arg in config.args)
    return None if any(GPU in (path, *path.parents) for path in paths) else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Those that were named come here without the option."""
    if not config.getoption("--gpu"):
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason=NEEDS_GPU))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
