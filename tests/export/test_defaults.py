import msgspec
import pytest
from mutoscope.engine.manifest import Defaults, Manifest
from mutoscope.errors import UserError
from mutoscope.export.defaults import change_defaults, check_defaults
from mutoscope.export.facts import Facts

WAN = Defaults(width=832, height=480, frames=81, fps=16, steps=50, guidance_scale=5.0)


def facts(manifest: Manifest) -> Facts:
    return Facts(manifest.text, manifest.denoiser, manifest.latents, manifest.limits)


def test_nothing_changed() -> None:
    assert change_defaults(WAN, []) == WAN


def test_values_take_the_type_of_their_field() -> None:
    changed = change_defaults(
        WAN, ["width=64", "guidance_scale=4", "fps=12.5", "negative_prompt=a=b"]
    )
    assert changed == msgspec.structs.replace(
        WAN, width=64, guidance_scale=4.0, fps=12.5, negative_prompt="a=b"
    )


def test_a_second_guidance_scale_follows_the_first_unless_it_is_given() -> None:
    two = msgspec.structs.replace(WAN, guidance_scale=4.0, guidance_scale_2=3.0)
    for changes, wanted in (
        (["width=64"], (4.0, 3.0)),
        (["guidance_scale=1"], (1.0, None)),
        (["guidance_scale_2=1"], (4.0, 1.0)),
        (["guidance_scale_2=2", "guidance_scale=5"], (5.0, 2.0)),
    ):
        changed = change_defaults(two, changes)
        assert (changed.guidance_scale, changed.guidance_scale_2) == wanted


def test_a_second_guidance_scale_wants_a_second_transformer(bundle_manifest: Manifest) -> None:
    defaults = msgspec.structs.replace(bundle_manifest.defaults, guidance_scale_2=3.0)
    with pytest.raises(UserError) as error:
        check_defaults(defaults, facts(bundle_manifest))
    assert str(error.value) == (
        "guidance_scale_2 is for a checkpoint with two transformers, this one has one; "
        "change --default guidance_scale=N"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("width", "--default width: KEY=VALUE is needed, as in width=64"),
        (
            "witdh=64",
            (
                "unknown default 'witdh'; did you mean 'width'? (known: fps, frames, "
                "guidance_scale, guidance_scale_2, height, negative_prompt, steps, width)"
            ),
        ),
        ("width=wide", "--default: Expected `int`, got `str` - at `$.width`"),
        ("steps=0", "--default: Expected `int` >= 1 - at `$.steps`"),
    ],
)
def test_a_wrong_change_says_what_would_do(change: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        change_defaults(WAN, [change])
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("width", 72, "is no multiple of 16"),
        ("height", 8, "is no multiple of 16"),
        ("frames", 6, "is no multiple of 4 plus 1"),
        ("width", 528, "is more than the 512 that this checkpoint takes"),
        ("frames", 165, "is more than the 161 that this checkpoint takes"),
    ],
)
def test_defaults_have_to_suit_the_model(
    bundle_manifest: Manifest, key: str, value: int, problem: str
) -> None:
    check_defaults(bundle_manifest.defaults, facts(bundle_manifest))
    wrong = msgspec.structs.replace(bundle_manifest.defaults, **{key: value})
    with pytest.raises(UserError) as error:
        check_defaults(wrong, facts(bundle_manifest))
    assert str(error.value) == (
        f"the default of {key}, {value}, {problem}; change it with --default {key}=N"
    )
