"""The GPU suite's parts of Wan's layout at tiny sizes, on the CPU: they want PyTorch to export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip(
    "torch", reason="parity tests need the export extra: pip install -e '.[export]'"
)
pytest.importorskip("diffusers", reason="parity tests need the export extra")

import torch
from mutoscope.bench import gpu_wan
from mutoscope.bench.gpu_engines import Case
from mutoscope.bench.gpu_setting import Setting
from mutoscope.bench.peers import diffusers_wan
from mutoscope.bench.peers.diffusers_wan import make_denoiser, vae_operations
from mutoscope.bench.suite import SkippedError
from mutoscope.bench.wan_inputs import keep
from mutoscope.bench.wan_layout import TINY
from mutoscope.engine import Bundle, open_graph
from mutoscope.engine.profiles import LatentSize

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # diffusers' own, of NumPy's
]
ENGINE = {"precision", "open_seconds", "first_run_seconds", "run_ms", "joules", "finite", "tflop_s"}


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """After an export that was cut short."""
    setting = Setting(tmp_path_factory.mktemp("suite"), small=True)
    (setting.work / "wan-checkpoint" / "transformer").mkdir(parents=True)
    assert gpu_wan.export(setting)["megabytes"] > 0
    return setting


def test_the_bundle_has_all_graphs_of_a_clip(setting: Setting) -> None:
    bundle = Bundle.open(setting.bundle)
    assert set(bundle.manifest.graphs) == set(gpu_wan.GRAPHS)
    assert bundle.precision == "fp16"


def test_a_bundle_that_is_there_is_kept(setting: Setting) -> None:
    with pytest.raises(SkippedError, match="wan is there already"):
        gpu_wan.export(setting)


def test_its_denoiser_has_diffusers_weights(setting: Setting) -> None:
    """Those that the parts of diffusers draw from the same seed, rounded to fp16."""
    bundle = Bundle.open(setting.bundle)
    feeds = Case(setting.bundle, LatentSize(*setting.sizes[0].latent)).feeds(bundle)
    with open_graph(bundle, "denoiser") as session:
        got = np.asarray(session.run(feeds)["sample"])
    model = make_denoiser(TINY, "cpu", torch.float32)
    with torch.no_grad():
        given = {name: torch.from_numpy(array) for name, array in feeds.items()}
        wanted = model(**given, return_dict=False)[0].numpy()
    assert np.abs(got - wanted).max() <= 2e-2 * np.abs(wanted).max()


def test_both_see_the_same_inputs(setting: Setting) -> None:
    size = setting.sizes[0]
    ours = Case(setting.bundle, LatentSize(*size.latent)).feeds(Bundle.open(setting.bundle))
    theirs = diffusers_wan._feeds("cpu", TINY, size, torch.float32)
    for name, array in ours.items():
        np.testing.assert_array_equal(theirs[name].numpy(), array)


def test_outputs_are_set_against_diffusers_in_fp32(tmp_path: Path, setting: Setting) -> None:
    eager = gpu_wan.diffusers_eager(setting)
    ours = [gpu_wan.wan(setting, backend="onnxruntime", index=index) for index in (0, 1)]
    for figures in ours:
        theirs = eager[figures["size"]]
        assert figures["reference"] == theirs["reference"] == "fp32"
        # mantissas of 10 bits beside 7
        assert 0 < figures["error"] < theirs["error"] < 2e-2
        assert 0 < theirs["fp16"]["error"] < theirs["error"]
    for size in setting.sizes:
        path = setting.prediction(size)
        keep(2 * np.load(path)["values"], "fp32", path)
    assert gpu_wan.wan(setting, backend="onnxruntime", index=0)["error"] == pytest.approx(
        0.5, abs=0.01
    )
    for size in setting.sizes:
        setting.prediction(size).unlink()
    assert gpu_wan.wan(setting, backend="onnxruntime", index=0)["error"] == (
        "not measured: there is no diffusers-prediction-64x32x5.npz in the work folder"
    )


def test_diffusers_keeps_in_fp32_what_it_does_from_a_checkpoint(tmp_path: Path) -> None:
    from diffusers import WanTransformer3DModel

    make_denoiser(TINY, "cpu", torch.float32).save_pretrained(tmp_path)
    wanted = WanTransformer3DModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    model = diffusers_wan.half_denoiser(TINY, "cpu", torch.bfloat16)
    for kind in ("named_parameters", "named_buffers"):
        named = [dict(getattr(one, kind)()) for one in (model, wanted)]
        assert {n: t.dtype for n, t in named[0].items()} == {
            n: t.dtype for n, t in named[1].items()
        }
        assert all(torch.equal(tensor, named[1][name]) for name, tensor in named[0].items())


def test_where_fp32_takes_too_much_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = diffusers_wan._predicted

    def scarce(*arguments: Any) -> Any:
        if arguments[-1] == "fp32":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return exact(*arguments)

    monkeypatch.setattr(diffusers_wan, "_predicted", scarce)
    eager = gpu_wan.diffusers_eager(Setting(tmp_path, small=True))
    for figures in eager.values():
        assert (figures["reference"], figures["error"]) == ("bf16", 0)
        assert figures["fp16"]["reference"] == "bf16"
        assert 0 < figures["fp16"]["error"] < 2e-2


@pytest.mark.parametrize("index", [0, 1])
def test_our_engines(setting: Setting, index: int) -> None:
    figures = gpu_wan.wan(setting, backend="onnxruntime", index=index)
    assert set(figures) >= ENGINE
    assert figures["size"] == setting.sizes[index].name
    assert figures["finite"]
    calls = gpu_wan.vae(setting, backend="onnxruntime", index=index)
    assert calls["size"] == setting.sizes[index].name
    for call in ("vae_decoder_first", "vae_decoder_next"):
        assert set(calls[call]) >= ENGINE


def test_our_text_encoder(setting: Setting) -> None:
    figures = gpu_wan.text(setting, backend="onnxruntime")
    assert set(figures) >= ENGINE
    assert (figures["layers_of_24"], figures["tokens"]) == (2, 512)


def test_our_clip(setting: Setting) -> None:
    figures = gpu_wan.clip(setting, backend="onnxruntime", index=0)
    assert figures["steps"] == figures["timed_steps"] == 6
    assert {"seconds", "host_step_ms", "outside_engines_share", "joules"} <= set(figures)


def test_diffusers_modules(tmp_path: Path) -> None:
    setting = Setting(tmp_path, small=True)
    peer = {"precision", "seconds", "tflop_s", "joules"}
    sizes = {size.name for size in setting.sizes}
    eager = gpu_wan.diffusers_eager(setting)
    assert set(eager) == sizes
    for figures in eager.values():
        assert (figures["precision"], figures["fp16"]["precision"]) == ("bf16", "fp16")
        assert peer | {"error"} <= set(figures)
        assert peer | {"error"} <= set(figures["fp16"])
    assert peer <= set(gpu_wan.diffusers_text(setting))
    decoder: dict[str, Any] = gpu_wan.diffusers_vae(setting)
    assert set(decoder) == sizes
    for figures in decoder.values():
        assert peer <= set(figures["vae_decoder_first"])
        assert peer <= set(figures["clip"])
        assert "later_frame_seconds" in figures


def test_a_later_latent_frame_is_more_work_than_the_first(tmp_path: Path) -> None:
    counts = vae_operations(Setting(tmp_path, small=True).sizes[0], base=4)
    assert 2 * counts["vae_decoder_first"] < counts["vae_decoder_next"]
    assert counts["vae_decoder_next"] < 5 * counts["vae_decoder_first"]
