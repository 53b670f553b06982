"""The root is the package: no folder may be forgotten, and nothing else may slip in."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOT_PACKAGES = {"tests", "docs", "scripts", "build", "dist", "plugins"}
PLUGINS = {"optimum/commands/register/register_mutoscope.py"}
"""What other packages find by its place: in the wheel outside of ours, in plugins/ here."""
BUILDS_ENGINES = Path("engine", "backends", "tensorrt", "graph.py")
TRAINING = {
    "torch", "transformers", "diffusers", "onnx", "onnxscript", "optimum",
    "openvino", "nncf", "matplotlib",
}  # fmt: skip


def sources() -> list[Path]:
    """Every Python file of the package, relative to the root."""
    files = (path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
    return sorted(f for f in files if f.parts[0] not in NOT_PACKAGES and f.parts[0][0] != ".")


def packages() -> set[str]:
    folders = {path.parent for path in sources()}
    return {".".join(["mutoscope", *folder.parts]) for folder in folders}


def test_every_folder_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    plugins = {".".join(Path(plugin).parent.parts) for plugin in PLUGINS}
    assert set(listed) == packages() | plugins
    assert all((ROOT / path.parent / "__init__.py").exists() for path in sources())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in a wheel, built from a copy so that nothing is left in the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, folder / "src", ignore=ignore)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", folder, "."]
    built = subprocess.run(command, cwd=folder / "src", capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    assert path.stat().st_size <= 30e6
    return zipfile.ZipFile(path).namelist()


def test_wheel_holds_every_source(wheel: list[str]) -> None:
    built = {name for name in wheel if name.endswith(".py")}
    assert built == {f"mutoscope/{path.as_posix()}" for path in sources()} | PLUGINS


def test_every_plugin_is_listed() -> None:
    """Without an `__init__.py`, which would hide the package that these folders belong to."""
    plugins = ROOT / "plugins"
    assert {path.relative_to(plugins).as_posix() for path in plugins.rglob("*.py")} == PLUGINS


def test_wheel_holds_the_embedded_model_and_types(wheel: list[str]) -> None:
    models = (path for path in (ROOT / "models").rglob("*") if path.is_file())
    wanted = {f"mutoscope/{path.relative_to(ROOT).as_posix()}" for path in models}
    assert wanted | {"mutoscope/py.typed"} <= set(wheel)
    assert "mutoscope/models/mini-wan/bundle.json" in wheel


def test_wheel_holds_the_kernels(wheel: list[str]) -> None:
    kernels = {f"mutoscope/kernels/{path.name}" for path in (ROOT / "kernels").glob("*.cu*")}
    assert {name for name in wheel if ".cu" in name} == kernels
    assert "mutoscope/kernels/noise.cu" in kernels


def test_wheel_holds_the_operators(wheel: list[str]) -> None:
    folder = "engine/backends/onnxruntime/native/"
    wanted = {f"mutoscope/{folder}{path.name}" for path in (ROOT / folder).iterdir()}
    assert {name for name in wheel if folder in name} == wanted
    assert f"mutoscope/{folder}attention.cpp" in wanted


@pytest.mark.parametrize("path", sources(), ids=str)
def test_only_export_and_peers_import_training_packages(path: Path) -> None:
    if path.parts[0] == "export" or path.parts[:2] == ("bench", "peers"):
        return
    imported = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add(str(node.module).partition(".")[0])
    assert not imported & TRAINING - ({"onnx"} if path == BUILDS_ENGINES else set())
    assert "mutoscope" not in imported, "inside the package, imports are relative"


COMMON = {"cache", "closing", "errors"}
ALLOWED = {
    "cli": {"bench", "runtime", "engine", "export", "quantize", *COMMON, "kernels", "interruption"},
    "quantize": {"bench", "runtime", "engine", *COMMON},
    "bench": {"runtime", "engine", "kernels", *COMMON},
    "runtime": {"engine", "kernels", *COMMON},
    "kernels": COMMON,
    "engine": {"kernels", *COMMON},
}
PEERS = Path("bench", "peers")
DEVICE_LAYER = {
    "kernels.device", "kernels.devices", "kernels.cuda_array", "kernels.attention_ops"
}  # fmt: skip
"""What an engine may know of the kernels: the device layer, and what a plugin computes."""


@pytest.mark.parametrize("path", [p for p in sources() if p.parts[0] in ALLOWED], ids=str)
def test_arrows_point_one_way(path: Path) -> None:
    """`cli → quantize → bench → runtime → engine → kernels`: the design's one rule of imports."""
    depth = len(path.parts)
    area = "cli" if path.is_relative_to(PEERS) else path.parts[0]  # it has a command of its own
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == depth and node.module:
            assert node.module.partition(".")[0] in ALLOWED[area] | {area}
            if area == "engine" and node.module.startswith("kernels"):
                assert node.module in DEVICE_LAYER


def test_ci_runs_what_needs_an_extra() -> None:
    """A test that skips without an extra is run once more, with a skip counted as a failure."""
    commands = (ROOT / ".ci" / "run").read_text()
    for path in (ROOT / "tests").rglob("test_*.py"):
        place = path.relative_to(ROOT)
        if place.parts[1] == "gpu" or path.name == "test_packaging.py":
            continue
        extras = set(re.findall(r'importorskip\(\s*"([\w.]+)"', path.read_text()))
        if extras - {"onnxruntime"}:  # which the README's own tests have
            named = [str(place), *map(str, list(place.parents)[:-2])]
            assert any(f" {name} " in f"{commands} ".replace("\n", " ") for name in named), place
