import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mutoscope.errors import CheckpointError
from mutoscope.export import families
from mutoscope.export.checkpoint import Checkpoint, read_json


def refused(function: Callable[[], object]) -> str:
    with pytest.raises(CheckpointError) as error:
        function()
    return str(error.value)


def test_there_is_no_folder(tmp_path: Path) -> None:
    message = refused(lambda: Checkpoint.open(tmp_path / "wan"))
    assert message == f"no checkpoint at {tmp_path}/wan: there is no such folder"


def test_a_folder_of_another_format(tmp_path: Path) -> None:
    message = refused(lambda: Checkpoint.open(tmp_path))
    assert message == (
        f"no checkpoint at {tmp_path}: model_index.json is missing; "
        "a folder in diffusers' format is needed"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not valid JSON (Expecting value: line 1 column 1 (char 0))"),
        ("[]", "is not a JSON object"),
        ("[" * 100_000, "is not valid JSON (nested too deeply)"),
    ],
)
def test_an_index_that_is_no_json(folder: Path, text: str, problem: str) -> None:
    path = folder / "model_index.json"
    path.write_text(text)
    message = refused(lambda: Checkpoint.open(folder))
    assert message == f"{path} {problem}; download the checkpoint again"


def test_bytes_that_are_no_text(folder: Path) -> None:
    path = folder / "model_index.json"
    path.write_bytes(b"\xff\xfe")
    assert refused(lambda: read_json(path)).startswith(f"{path} is not valid JSON")


def test_json_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as stream:
        stream.truncate((64 << 20) + 1)
    assert refused(lambda: read_json(path)) == f"{path} is larger than 64 MB; refused"


def test_an_unknown_family_lists_the_known_ones(
    folder: Path, change_index: Callable[..., None]
) -> None:
    change_index(_class_name="LTXPipeline")
    message = refused(lambda: families.find(Checkpoint.open(folder)))
    assert message == (
        f"{folder} is a checkpoint of LTXPipeline, which cannot be exported (known: "
        "WanImageToVideoPipeline, WanPipeline)"
    )


def test_an_index_without_a_class(folder: Path) -> None:
    (folder / "model_index.json").write_text("{}")
    message = refused(lambda: families.find(Checkpoint.open(folder)))
    assert message == (
        f"{folder} is a checkpoint of no pipeline, which cannot be exported (known: "
        "WanImageToVideoPipeline, WanPipeline)"
    )


def test_wan_is_known(folder: Path) -> None:
    assert families.find(Checkpoint.open(folder)).name == "wan"


@pytest.mark.parametrize("name", ["text_encoder", "transformer", "vae"])
def test_a_missing_folder_is_named(folder: Path, name: str) -> None:
    (folder / name / "config.json").unlink()
    (folder / name).rmdir()
    message = refused(lambda: Checkpoint.open(folder).component(name))
    assert message == f"{folder} lacks its {name} folder; download the checkpoint again"


def test_a_missing_configuration_is_named(folder: Path) -> None:
    path = folder / "vae" / "config.json"
    path.unlink()
    message = refused(lambda: Checkpoint.open(folder).component("vae"))
    assert message == f"{path} is missing; download the checkpoint again"


def test_a_missing_shard_is_named(folder: Path) -> None:
    shard = "model-00001-of-00002.safetensors"
    index = folder / "text_encoder" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"shared.weight": shard}}))
    message = refused(lambda: Checkpoint.open(folder).component("text_encoder"))
    assert message == (
        f"{folder}/text_encoder lacks the shard {shard}, which its index names; "
        "download the checkpoint again"
    )


def test_a_shard_outside_of_the_folder_is_refused(folder: Path) -> None:
    index = folder / "vae" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    message = refused(lambda: Checkpoint.open(folder).component("vae"))
    assert message == (
        f"{folder}/vae has an index that names '../elsewhere.safetensors', outside of it"
    )


@pytest.mark.parametrize("content", ["{}", '{"weight_map": {"a": 1}}'])
def test_an_index_of_shards_without_its_map(folder: Path, content: str) -> None:
    index = folder / "vae" / "model.safetensors.index.json"
    index.write_text(content)
    message = refused(lambda: Checkpoint.open(folder).component("vae"))
    assert message == f"{index} has no weight_map; download the checkpoint again"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_pickles_are_refused(folder: Path, name: str) -> None:
    (folder / "vae" / name).write_bytes(b"")
    message = refused(lambda: Checkpoint.open(folder).component("vae"))
    assert message == (
        f"{folder}/vae has its weights in {name}, a pickle file, which can run code when it is "
        "opened; refused: convert the checkpoint to safetensors"
    )


def test_no_weights_at_all(folder: Path) -> None:
    message = refused(lambda: Checkpoint.open(folder).component("vae"))
    assert message == (
        f"{folder}/vae has no weights (*.safetensors); download the checkpoint again"
    )
