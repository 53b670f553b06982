"""What a request becomes, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from msgspec import structs
from mutoscope.engine import Bundle
from mutoscope.engine.manifest import Manifest
from mutoscope.errors import UserError
from mutoscope.kernels.guidance_weights import Projected, ZeroStar
from mutoscope.runtime.request import Request, settle


def settled(bundle: Bundle, **options: Any) -> Any:
    prompt = options.pop("prompt", "a red circle")
    return settle(Request.of(prompt, options), bundle.manifest)


def refusal(bundle: Bundle, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        settled(bundle, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults(bundle: Bundle) -> None:
    settings = settled(bundle)
    record = settings.record()
    assert 0 <= record.pop("seed") < 2**32
    assert record == {
        "prompt": "a red circle",
        "negative_prompt": "",
        "width": 32,
        "height": 32,
        "frames": 5,
        "fps": 12,
        "steps": 3,
        "guidance_scale": 4,
        "guidance_method": "cfg",
        "guidance_rescale": 0,
        "guidance_interval": (0, 1),
        "sequential_guidance": False,
        "step_cache": 0,
        "scheduler": "euler",
        "shift": 3.0,
        "vae_tile": 0,
    }
    assert settings.latent_shape == (1, 4, 2, 4, 4)
    assert settings.guided


def test_a_terminal_sigma_is_the_requests_or_the_bundles(bundle: Bundle) -> None:
    published = structs.replace(bundle.manifest.scheduler, shift_terminal=0.3)
    manifest = structs.replace(bundle.manifest, scheduler=published)

    def terminal(manifest: Manifest, **options: Any) -> Any:
        return settle(Request.of("a red circle", options), manifest).record().get("shift_terminal")

    assert terminal(bundle.manifest) is None
    assert terminal(bundle.manifest, shift_terminal=0.4) == 0.4
    assert terminal(manifest) == 0.3
    assert terminal(manifest, shift_terminal=0.4) == 0.4
    assert terminal(manifest, scheduler="unipc") is None


@pytest.mark.parametrize(
    ("options", "told", "variant"),
    [
        ({}, {"guidance_method": "cfg"}, None),
        (
            {"guidance_method": "cfg-zero"},
            {"guidance_method": "cfg-zero", "zero_init_steps": 1},
            ZeroStar(),
        ),
        (
            {"guidance_method": "cfg-zero", "steps": 1},
            {"guidance_method": "cfg-zero", "zero_init_steps": 0},
            ZeroStar(),
        ),
        (
            {"guidance_method": "apg"},
            {"guidance_method": "apg", "apg_eta": 0, "apg_norm_threshold": 0},
            Projected(0.0, 0.0),
        ),
        (
            {"guidance_method": "apg", "apg_eta": 0.5, "apg_norm_threshold": 15},
            {"guidance_method": "apg", "apg_eta": 0.5, "apg_norm_threshold": 15},
            Projected(0.5, 15.0),
        ),
    ],
)
def test_methods_of_guidance(
    bundle: Bundle, options: dict[str, Any], told: dict[str, Any], variant: Any
) -> None:
    """The record has the options of the method that is used, and of no other."""
    settings = settled(bundle, **options)
    names = ("guidance_method", "zero_init_steps", "apg_eta", "apg_norm_threshold")
    record = settings.record()
    assert {name: record[name] for name in names if name in record} == told
    assert settings.variant == variant


def test_seeds_differ(bundle: Bundle) -> None:
    assert len({settled(bundle).seed for _ in range(8)}) > 1


def test_given_values_win(bundle: Bundle) -> None:
    settings = settled(bundle, width=64, height=96, frames=1, guidance_scale=1, seed=2**64 - 1)
    assert settings.latent_shape == (1, 4, 1, 12, 8)
    assert settings.seed == 2**64 - 1
    assert not settings.guided


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"prompt": " &nbsp; "}, 'the prompt is empty; say what to show, e.g. "a red circle mov'),
        ({"prompt": 3}, "prompt must be text, not 3"),
        ({"prompt": "x" * 100_001}, "prompt has 100,001 characters; at most 100,000 are taken"),
        ({"width": 70}, "width must be a multiple of 16, 70 is not: use 64 or 80"),
        ({"height": 7}, "height must be a multiple of 16, 7 is not: use 16"),
        ({"width": 1024}, "width must be between 1 and 512, not 1024"),
        ({"width": 64.0}, "width must be a whole number, not 64.0"),
        ({"frames": 16}, "frames must be 4n+1, 16 is not: use 13 or 17"),
        ({"frames": 0}, "frames must be between 1 and 161, not 0"),
        ({"steps": -4}, "steps must be between 1 and 1000, not -4"),
        ({"steps": True}, "steps must be a whole number, not True"),
        ({"fps": 0}, "fps must be above 0 and at most 240, not 0"),
        ({"fps": float("nan")}, "fps must be above 0 and at most 240, not nan"),
        ({"guidance_scale": -1}, "guidance_scale must be 0 or more and at most 100, not -1"),
        ({"guidance_scale": "4"}, "guidance_scale must be a number, not '4'"),
        ({"guidance_rescale": 1.5}, "guidance_rescale must be 0 or more and at most 1, not 1.5"),
        (
            {"guidance_method": "cfg-zer"},
            "unknown guidance_method 'cfg-zer'; did you mean 'cfg-zero'? (known: apg, cfg, cfg-z",
        ),
        ({"guidance_method": 3}, "guidance_method must be text, not 3"),
        ({"apg_eta": 0.5}, "apg_eta is for guidance_method apg, not for cfg"),
        (
            {"guidance_method": "cfg-zero", "apg_norm_threshold": 0},
            "apg_norm_threshold is for guidance_method apg, not for cfg-zero",
        ),
        (
            {"guidance_method": "apg", "zero_init_steps": 1},
            "zero_init_steps is for guidance_method cfg-zero, not for apg",
        ),
        (
            {"guidance_method": "apg", "guidance_scale": 1},
            "guidance_method apg needs guidance: give a guidance_scale above 1, or choose",
        ),
        ({"guidance_method": "apg", "apg_eta": 2}, "apg_eta must be 0 or more and at most 1, not "),
        (
            {"guidance_method": "apg", "apg_norm_threshold": -1},
            "apg_norm_threshold must be 0 or more and at most 1e+09, not -1",
        ),
        (
            {"guidance_method": "cfg-zero", "steps": 4, "zero_init_steps": 4},
            "zero_init_steps must be between 0 and 3, not 4",
        ),
        ({"guidance_interval": 0.5}, "guidance_interval must be two numbers, not 0.5"),
        ({"guidance_interval": (0, 1.5)}, "guidance_interval must be 0 or more and at most 1, not"),
        ({"guidance_interval": (1, 0)}, "guidance_interval must begin before it ends, not at 1 an"),
        ({"step_cache": -0.1}, "step_cache must be 0 or more and at most 10, not -0.1"),
        ({"vae_tile": 100}, "vae_tile must be a multiple of 8 and at least 32, not 100"),
        ({"vae_tile": 24}, "vae_tile must be a multiple of 8 and at least 32, not 24"),
        ({"vae_tile": 9999}, "vae_tile must be between 0 and 512, not 9999"),
        ({"seed": -1}, "seed must be between 0 and 18446744073709551615, not -1"),
        (
            {"scheduler": "eular"},
            "unknown scheduler 'eular'; did you mean 'euler'? (known: dpmpp-2m, euler, unipc)",
        ),
        (
            {"scheduler": "unipc", "shift_terminal": 0.4},
            "shift_terminal is for the scheduler euler, not for unipc",
        ),
        ({"sigmas": 0.5}, "sigmas must be numbers, e.g. (1, 0.75, 0.5, 0.25), not 0.5"),
        ({"sigmas": ()}, "sigmas must be numbers, e.g. (1, 0.75, 0.5, 0.25), not ()"),
        ({"sigmas": [1] * 1001}, "sigmas are 1,001; at most 1,000 are taken"),
        ({"sigmas": (1, 0)}, "sigmas must be above 0 and at most 1, not 0"),
        ({"sigmas": (0.5, 0.5)}, "sigmas must fall, 0.5 comes after 0.5"),
        ({"sigmas": (1,), "steps": 2}, "there are 1 sigmas, and steps is 2: leave steps out"),
        ({"sigmas": (1,), "shift_terminal": 0.4}, "give sigmas, which say where they end, or shi"),
        ({"sigmas": (1,), "scheduler": "unipc"}, "sigmas are for the scheduler euler, not for uni"),
        ({"shift_terminal": 1}, "shift_terminal must be 0.001 or more and at most 0.999, not 1"),
        ({"scheduler": ["euler"]}, "scheduler must be text, not ['euler']"),
        ({"step": 4}, "unknown option 'step'; did you mean 'steps'? (known: apg_eta, apg_nor"),
        (
            {"latents": np.zeros((1, 4, 2, 4, 5), np.float32)},
            "latents must be float32 [1, 4, 2, 4, 4], not float32 [1, 4, 2, 4, 5]",
        ),
        (
            {"latents": np.full((1, 4, 2, 4, 4), np.nan, np.float32)},
            "latents hold NaN or infinite values",
        ),
    ],
)
def test_refused(bundle: Bundle, options: dict[str, Any], told: str) -> None:
    assert refusal(bundle, **options).startswith(told)


anything = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.lists(st.integers(), max_size=3)
    | hnp.arrays(np.float32, hnp.array_shapes(max_dims=5, max_side=3))
)
options = st.dictionaries(
    st.sampled_from([*Request.__dataclass_fields__, "setps"]), anything, max_size=5
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # what is drawn is small: a busy machine
@given(options=options)
def test_random_requests_settle_or_say_why(bundle_manifest: Any, options: dict[str, Any]) -> None:
    prompt = options.pop("prompt", "a red circle")
    try:
        settings = settle(Request.of(prompt, options), bundle_manifest)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert settings.width % 16 == settings.height % 16 == 0
        assert settings.frames % 4 == 1
        assert settings.steps >= 1
