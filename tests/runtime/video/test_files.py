from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from mutoscope.errors import UserError
from mutoscope.runtime.video.files import OutputFile, OutputFolder

Kind = type[OutputFile] | type[OutputFolder]
KINDS = pytest.mark.parametrize("kind", [OutputFile, OutputFolder])


def refusal(kind: Kind, path: Path, *, overwrite: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        kind(path, overwrite=overwrite)
    return str(caught.value)


def fill(part: Path, content: str = "new") -> None:
    (part / "0001.png" if part.is_dir() else part).write_text(content)


def content(path: Path) -> str:
    return (path / "0001.png" if path.is_dir() else path).read_text()


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder without write permission, for root too, who for the moment is nobody."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


@KINDS
def test_appears_only_when_whole(tmp_path: Path, kind: Kind) -> None:
    output = kind(tmp_path / "clip", overwrite=False)
    part = output.begin()
    fill(part)
    assert part.parent == tmp_path
    assert part.name.startswith(".mutoscope-")
    assert not output.path.exists()
    output.commit()
    assert content(output.path) == "new"
    assert list(tmp_path.iterdir()) == [output.path]
    output.discard()
    assert output.path.exists()


@KINDS
def test_discard_leaves_nothing(tmp_path: Path, kind: Kind) -> None:
    output = kind(tmp_path / "clip", overwrite=False)
    output.discard()
    fill(output.begin())
    output.discard()
    output.discard()
    assert list(tmp_path.iterdir()) == []


def test_file_gets_the_usual_permissions(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        output = OutputFile(tmp_path / "clip", overwrite=False)
        output.begin()
        output.commit()
    finally:
        os.umask(mask)
    assert output.path.stat().st_mode & 0o777 == 0o644


@KINDS
def test_taken_name(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "clip"
    if kind is OutputFolder:
        path.mkdir()
        fill(path)
    else:
        path.touch()
    assert refusal(kind, path) == f"{path} exists; choose another name or pass --overwrite"


def test_broken_link_is_a_taken_name(tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.symlink_to("nowhere")
    assert refusal(OutputFile, path) == f"{path} exists; choose another name or pass --overwrite"


@KINDS
def test_name_taken_meanwhile(tmp_path: Path, kind: Kind) -> None:
    output = kind(tmp_path / "clip", overwrite=False)
    part = output.begin()
    fill(part)
    if kind is OutputFolder:
        output.path.mkdir()
        fill(output.path, "theirs")
    else:
        output.path.write_text("theirs")
    with pytest.raises(UserError) as caught:
        output.commit()
    output.discard()
    assert str(caught.value) == f"{output.path} exists; choose another name or pass --overwrite"
    assert content(output.path) == "theirs"
    assert list(tmp_path.iterdir()) == [output.path]


@pytest.mark.parametrize("taken", [False, True])
def test_file_system_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    output = OutputFile(tmp_path / "clip", overwrite=False)
    fill(output.begin())
    if taken:
        output.path.write_text("theirs")
        with pytest.raises(UserError, match=r"exists; choose another name or pass --overwrite$"):
            output.commit()
    else:
        output.commit()
    output.discard()
    assert content(output.path) == ("theirs" if taken else "new")
    assert list(tmp_path.iterdir()) == [output.path]


@KINDS
def test_overwrite_replaces_at_the_end(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "clip"
    if kind is OutputFolder:
        path.mkdir()
        (path / "0002.png").touch()
        (path / "clip.json").touch()
    fill(path, "old")
    output = kind(path, overwrite=True)
    fill(output.begin())
    assert content(path) == "old"
    output.commit()
    assert content(path) == "new"
    assert list(tmp_path.iterdir()) == [path]
    assert kind is OutputFile or [p.name for p in path.iterdir()] == ["0001.png"]


def test_empty_folder_is_filled_without_being_told(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    path.mkdir()
    output = OutputFolder(path, overwrite=False)
    fill(output.begin())
    output.commit()
    assert content(path) == "new"


def test_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    path.mkdir()
    fill(path, "old")
    output = OutputFolder(path, overwrite=True)
    fill(output.begin())
    (path / "notes.txt").touch()
    message = (
        f"{path} holds notes.txt, which is no frame of a clip, and is not overwritten; "
        "choose another folder"
    )
    assert refusal(OutputFolder, path, overwrite=True) == message
    with pytest.raises(UserError) as caught:
        output.commit()
    output.discard()
    assert str(caught.value) == message
    assert sorted(p.name for p in path.iterdir()) == ["0001.png", "notes.txt"]


def test_old_folder_comes_back_where_the_new_one_cannot_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "frames"
    path.mkdir()
    fill(path, "old")
    output = OutputFolder(path, overwrite=True)
    part = output.begin()
    rename = Path.rename

    def fail_once(source: Path, target: Path) -> Path:
        if source == part:
            raise OSError(errno.EIO, "Input/output error")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(UserError) as caught:
        output.commit()
    output.discard()
    assert str(caught.value) == f"cannot write {path}: Input/output error"
    assert content(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_and_folder_do_not_replace_each_other(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    for overwrite in (False, True):
        assert refusal(OutputFile, folder, overwrite=overwrite) == (
            f"{folder} is a folder; choose another name"
        )
        assert refusal(OutputFolder, file, overwrite=overwrite) == (
            f"{file} exists and is not a folder; choose another name"
        )


@KINDS
def test_missing_parent(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "missing" / "clip"
    assert refusal(kind, path) == f"the folder {path.parent} does not exist; make it first"
    assert list(tmp_path.iterdir()) == []


@KINDS
def test_parent_is_a_file(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "file" / "clip"
    path.parent.touch()
    assert refusal(kind, path) == (f"{path.parent} is not a folder; choose another place for clip")


@KINDS
def test_parent_without_permission(locked: Path, kind: Kind) -> None:
    assert refusal(kind, locked / "clip") == (
        f"no permission to write into {locked}; choose another folder"
    )


@KINDS
def test_permission_lost_meanwhile(
    locked: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: True)
    output = kind(locked / "clip", overwrite=False)
    with pytest.raises(UserError) as caught:
        output.begin()
    output.discard()
    assert str(caught.value) == f"cannot write {locked / 'clip'}: Permission denied"


@KINDS
@pytest.mark.parametrize("name", ["", ".", "..", "/", "a\0b"])
def test_no_name(kind: Kind, name: str) -> None:
    assert refusal(kind, Path(name)) == f"{str(Path(name))!r} is no name for a clip"


@KINDS
def test_name_too_long(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / ("x" * 256)
    assert refusal(kind, path) == f"cannot write {path}: File name too long"
