"""`export --lora` and `--preset`: what may be said, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import mutoscope
import pytest
from mutoscope.engine.manifest import PresetSpec
from mutoscope.errors import UserError
from mutoscope.export.presets import check_loras, copy_loras, read_presets

OUTLINES = Path(mutoscope.__file__).parent / "models" / "mini-wan" / "outlines.safetensors"


def test_read() -> None:
    texts = [
        "fast:lora=four-steps,steps=4,guidance_scale=1,shift_terminal=0.4",
        "drawn:lora=outlines:0.5,lora=four-steps:-1",
        "own:sigmas=1/0.75/0.5",
    ]
    found = read_presets(texts, ["four-steps", "outlines"])
    fast = PresetSpec(
        loras={"four-steps.safetensors": 1}, steps=4, guidance_scale=1, shift_terminal=0.4
    )
    drawn = PresetSpec(loras={"outlines.safetensors": 0.5, "four-steps.safetensors": -1})
    own = PresetSpec(sigmas=(1, 0.75, 0.5))
    assert list(found.items()) == [("fast", fast), ("drawn", drawn), ("own", own)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fast", "--preset fast: NAME:KEY=VALUE,… is needed, as in fast:lora=four-steps,steps=4"),
        (":steps=4", "--preset :steps=4: NAME:KEY=VALUE,… is needed"),
        ("fast:steps", "--preset fast:steps: NAME:KEY=VALUE,… is needed"),
        ("fast:step=4", "--preset fast:step=4: unknown setting 'step'; did you mean 'steps'?"),
        ("fast:sigmas=0.5/0.75", "--preset fast:sigmas=0.5/0.75: sigmas must fall, each below "),
        ("fast:sigmas=1/2", "--preset fast:sigmas=1/2: Expected `float` <= 1.0"),
        ("fast:sigmas=1/0.5,steps=2", "--preset fast:sigmas=1/0.5,steps=2: sigmas say how many "),
        ("fast:steps=0", "--preset fast:steps=0: Expected `int` >= 1"),
        ("fast:steps=four", "--preset fast:steps=four: Expected `int | null`, got `str`"),
        ("fast:lora=four", "--preset fast:lora=four: the bundle has no LoRA 'four'; add it with "),
        ("fast:lora=mine:x", "--preset fast:lora=mine:x: Expected `float`, got `str`"),
        ("full:steps=4", "--preset full:steps=4: there is one called 'full' already"),
    ],
)
def test_refused(text: str, told: str) -> None:
    with pytest.raises(UserError) as refused:
        read_presets([text], ["mine"])
    assert str(refused.value).startswith(told)


def test_two_of_one_name() -> None:
    with pytest.raises(UserError, match="there is one called 'a' already"):
        read_presets(["a:steps=1", "a:steps=2"], [])


def test_loras_go_along(tmp_path: Path) -> None:
    found = check_loras([OUTLINES])
    assert found == {"outlines": OUTLINES}
    copy_loras(list(found.values()), tmp_path)
    assert (tmp_path / OUTLINES.name).read_bytes() == OUTLINES.read_bytes()


def test_loras_that_cannot(tmp_path: Path) -> None:
    other = shutil.copyfile(OUTLINES, tmp_path / "outlines.bin")
    with pytest.raises(UserError, match=r"its name has to end in \.safetensors"):
        check_loras([other])
    with pytest.raises(UserError, match="has the same name; rename one"):
        check_loras([OUTLINES, OUTLINES])
    with pytest.raises(UserError, match="there is no such file"):
        check_loras([tmp_path / "none.safetensors"])
