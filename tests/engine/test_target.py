import errno
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from mutoscope.engine.folders import whole_folder
from mutoscope.engine.target import check_target
from mutoscope.errors import UserError


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        check_target(tmp_path / "no" / "bundle", overwrite=False)
    assert (
        str(error.value) == f"cannot write {tmp_path}/no/bundle: there is no folder {tmp_path}/no"
    )


def test_what_is_there_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    with pytest.raises(UserError) as error:
        check_target(target, overwrite=False)
    assert str(error.value) == f"{target} exists; choose another place or pass --overwrite"
    check_target(target, overwrite=True)


def test_only_a_bundle_is_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "photos"
    target.mkdir()
    (target / "cat.jpg").write_text("cat")
    with pytest.raises(UserError) as error:
        check_target(target, overwrite=True)
    expected = f"{target} is not a bundle; it is not overwritten, remove it yourself"
    assert str(error.value) == expected


def test_a_link_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "bundle.json").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(UserError, match="is not a bundle"):
        check_target(tmp_path / "link", overwrite=True)


def test_the_folder_takes_its_place_whole(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with whole_folder(target) as work:
        (work / "bundle.json").write_text("{}")
        assert not target.exists()
        assert work.parent == tmp_path  # on the same disk, so that it can be renamed
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    assert (target / "bundle.json").read_text() == "{}"
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o777 & ~umask


def test_the_old_one_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    for content in ("old", "new"):
        with whole_folder(target) as work:
            (work / content).write_text(content)
    assert [p.name for p in target.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def write_and_fail(target: Path, failure: BaseException) -> None:
    with whole_folder(target) as work:
        (work / "new").write_text("new")
        raise failure


@pytest.mark.parametrize("failure", [ValueError("bad"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_and_keeps_the_old_one(
    tmp_path: Path, failure: BaseException
) -> None:
    target = tmp_path / "bundle"
    with whole_folder(target) as work:
        (work / "old").write_text("old")
    with pytest.raises(type(failure)):
        write_and_fail(target, failure)
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    assert [p.name for p in target.iterdir()] == ["old"]


@pytest.mark.parametrize("after", [1, 2])
def test_interrupted_between_two_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """When the old one is out of its place and the new one not in, or just after."""
    target = tmp_path / "bundle"
    with whole_folder(target) as work:
        (work / "old").write_text("old")
    rename, renamed = Path.rename, []

    def interrupted(self: Path, other: Path) -> Path:
        moved = rename(self, other)
        renamed.append(other)
        if len(renamed) == after:
            raise KeyboardInterrupt
        return moved

    monkeypatch.setattr(Path, "rename", interrupted)
    with suppress(KeyboardInterrupt), whole_folder(target) as work:
        (work / "new").write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    assert [p.name for p in target.iterdir()] == ["old" if after == 1 else "new"]


WRITE_AND_WAIT = """
import sys
from pathlib import Path
from mutoscope.engine.folders import whole_folder
with whole_folder(Path(sys.argv[1])) as work:
    (work / "new").write_text("new")
    print(work, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_goes_and_what_another_writes_stays(tmp_path: Path) -> None:
    target = tmp_path / "bundle [1]"
    command = [sys.executable, "-P", "-c", WRITE_AND_WAIT, str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        theirs = Path(one.stdout.readline().strip())
        with whole_folder(target):
            pass
        assert (theirs / "new").exists()
        one.kill()
    assert (theirs / "new").exists()
    with whole_folder(target):
        assert not theirs.exists()
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_process_had_moved_away_goes_back(tmp_path: Path) -> None:
    """Killed between two renames, when the old one was out of its place and the new one not in."""
    target, away = tmp_path / "bundle", tmp_path / ".bundle.abcd_123.old"
    away.mkdir()
    (away / "bundle").mkdir()
    (away / "bundle" / "bundle.json").write_text("{}")
    other = tmp_path / ".bundle.int8.abcd_123.partial"
    other.mkdir()
    with whole_folder(target):
        assert (target / "bundle.json").read_text() == "{}"
    assert list(target.iterdir()) == []
    assert sorted(tmp_path.iterdir()) == [other, target]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with pytest.raises(UserError) as error:
        write_and_fail(target, OSError(errno.ENOSPC, "No space left on device"))
    assert str(error.value) == f"no space left for {target}; nothing was written, free some first"
    assert list(tmp_path.iterdir()) == []
