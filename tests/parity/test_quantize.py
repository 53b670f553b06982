"""A tiny random denoiser, exported in fp16 and quantized for TensorRT-RTX, end to end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import mutoscope
import pytest
from mutoscope import cli
from mutoscope.engine import Bundle
from mutoscope.engine.bundle import describe_files
from mutoscope.engine.manifest import write_manifest
from mutoscope.export import Options as ExportOptions
from mutoscope.export import export_bundle
from mutoscope.quantize import Options, quantize_bundle

pytest.importorskip(
    "torch", reason="parity tests need the export extra: pip install -e '.[export]'"
)
pytest.importorskip("diffusers", reason="parity tests need the export extra")
pytestmark = pytest.mark.parity

BOUND = 0.1
"""Of the denoiser's error with all products in eight bits, ranges of one clip of two steps."""

SUMS = {"int8": {"Float"}, "fp8": {"Half", "Float"}}
"""What TensorRT-RTX's products give. Scales a channel come after them, and fp16 would overflow; one
scale is in them, and only what is fp32 anyway, the timestep's embedding, gives that."""

HALVED = ["denoiser", "text_encoder"]
TEXT_ENCODERS = {"int8": "int8", "fp8": None}
SMALL = ["width=32", "height=48", "frames=5"]
CLIP: dict[str, Any] = {"width": 32, "height": 48, "frames": 5, "steps": 2}


@pytest.fixture(scope="module")
def half(
    tiny_bundle: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny bundle with its denoiser and text encoder in fp16."""
    folder = tmp_path_factory.mktemp("half")
    options = ExportOptions(precision="fp16", graphs=HALVED, defaults=SMALL)
    export_bundle(tiny_checkpoint, folder / "halved", options)
    halved = {name: Bundle.open(folder / "halved").graph(name) for name in HALVED}
    manifest = Bundle.open(tiny_bundle).manifest
    shutil.copytree(tiny_bundle, folder / "whole")
    for graph in halved.values():
        for file in (graph.file, *graph.data):
            shutil.copyfile(folder / "halved" / file, folder / "whole" / file)
    changed = msgspec.structs.replace(
        manifest,
        graphs={**manifest.graphs, **halved},
        files=describe_files(folder / "whole"),
    )
    write_manifest(folder / "whole", changed)
    return folder / "whole"


@pytest.fixture(scope="module", params=SUMS)
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def made(precision: str, half: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("half") / precision
    options = Options(
        precision=precision, backend="tensorrt-rtx", target_error=1.0, calibration=1, prompts=1,
        request=CLIP, accept_quality=True, threads=1, text_encoder=TEXT_ENCODERS[precision],
    )  # fmt: skip
    quantize_bundle(half, target, options)
    return target


def test_every_product_is_near_its_source(precision: str, made: Path) -> None:
    bundle = Bundle.open(made)
    spec = bundle.manifest.quantization
    assert spec is not None
    assert bundle.precision == precision
    assert len(spec.formats["denoiser"]) == 16
    assert set(spec.formats["denoiser"].values()) == {f"{precision}-static"}
    assert 0.002 < spec.quality.errors["denoiser"] < BOUND
    text = spec.quality.errors.get("text_encoder")
    assert text is None if TEXT_ENCODERS[precision] is None else 0.0005 < text < 0.02
    with mutoscope.load(made, threads=1) as pipe:
        assert pipe("a red circle", seed=1, **CLIP).frames.shape == (5, 48, 32, 3)


def test_tensorrt_multiplies_it_in_eight_bits(
    precision: str, made: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="building engines needs the rtx extra")
    arguments = ["--arch", "sm_89,sm_120", "--profile", "32x48x5", "--graphs", "denoiser"]
    cli.main(["build", str(made), *arguments, "-o", str(tmp_path), "--json"])
    (engine,) = json.loads(capfd.readouterr().out)["engines"]
    listing = (Path(engine["path"]) / "layers.txt").read_text().splitlines()
    kind = {"int8": "Int8", "fp8": "FP8"}[precision]
    given = []
    for line in listing:
        layer, outputs = line.split("Outputs:") if "LayerType: gemm" in line else ("", "")
        if layer.count(f"Datatype: {kind}") == 2:
            given.append(outputs.split("Datatype: ")[1].split(",")[0])
    assert len(given) >= 16
    assert set(given) == SUMS[precision]


def test_a_gpu_without_fp8_is_refused(
    half: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="building engines needs the rtx extra")
    folder = tmp_path / "fp8"
    shutil.copytree(half, folder)
    manifest = Bundle.open(folder).manifest
    said = msgspec.structs.replace(manifest.graphs["denoiser"], precision="fp8")
    graphs = {**manifest.graphs, "denoiser": said}
    write_manifest(folder, msgspec.structs.replace(manifest, graphs=graphs))
    with pytest.raises(SystemExit) as leave:
        cli.main(["build", str(folder), "--arch", "sm_86,sm_89", "-o", str(tmp_path / "store")])
    assert leave.value.code == 2
    told = f"mutoscope: error: {folder}: the graph 'denoiser' is in fp8, which GPUs compute from sm"
    assert capfd.readouterr().err.splitlines()[-1].startswith(told)
    assert [path.name for path in tmp_path.iterdir()] == ["fp8"]
