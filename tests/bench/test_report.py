"""The same measurements in every format, alone and against earlier ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from mutoscope.bench.baseline import LATER, SETTINGS, Baseline
from mutoscope.bench.measure import Measurement
from mutoscope.bench.report import Report, Run, as_csv, as_json, as_markdown

MEASURED = [
    Measurement("text", (0.001, 0.003), "8 tokens"),
    Measurement("clip", (1.5, 1.5), "prompt to file, warm"),
]
FACTS = {**dict.fromkeys(SETTINGS, 1), "steps": 4}
ONE = Report([Run({"bundle": "mini", "steps": 4}, MEASURED)], {"cores": "2"})
TWO = replace(ONE, runs=[*ONE.runs, Run({"bundle": "mini", "steps": 30}, MEASURED[1:])])


def test_markdown() -> None:
    assert as_markdown(ONE) == (
        "| stage | ms (mean ± sd) | n | what |\n"
        "| --- | --- | --- | --- |\n"
        "| text | 2.0 ± 1.4 | 2 | 8 tokens |\n"
        "| clip | 1500.0 ± 0.0 | 2 | prompt to file, warm |\n"
        "\n"
        "bundle: mini, steps: 4, cores: 2"
    )


def test_markdown_has_a_column_for_what_varies() -> None:
    assert as_markdown(TWO) == (
        "| steps | stage | ms (mean ± sd) | n | what |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| 4 | text | 2.0 ± 1.4 | 2 | 8 tokens |\n"
        "| 4 | clip | 1500.0 ± 0.0 | 2 | prompt to file, warm |\n"
        "| 30 | clip | 1500.0 ± 0.0 | 2 | prompt to file, warm |\n"
        "\n"
        "bundle: mini, cores: 2"
    )


def test_energy_has_a_column_where_it_is_counted() -> None:
    counted = replace(ONE, runs=[Run({}, [replace(MEASURED[0], joules=1.26), MEASURED[1]])])
    assert as_markdown(counted).splitlines() == [
        "| stage | ms (mean ± sd) | J | n | what |",
        "| --- | --- | --- | --- | --- |",
        "| text | 2.0 ± 1.4 | 1.3 | 2 | 8 tokens |",
        "| clip | 1500.0 ± 0.0 | – | 2 | prompt to file, warm |",
        "",
        "cores: 2",
    ]


def test_csv() -> None:
    assert as_csv(TWO).splitlines() == [
        "stage,mean_ms,sd_ms,joules,repetitions,scope,bundle,steps,cores",
        "text,2.0,1.414,,2,8 tokens,mini,4,2",
        'clip,1500.0,0.0,,2,"prompt to file, warm",mini,4,2',
        'clip,1500.0,0.0,,2,"prompt to file, warm",mini,30,2',
    ]


def test_json() -> None:
    whole = json.loads(as_json(TWO))
    assert whole["cores"] == "2"
    assert [run["steps"] for run in whole["runs"]] == [4, 30]
    assert whole["runs"][0]["measurements"][0] == {
        "stage": "text",
        "mean_ms": 2.0,
        "sd_ms": 1.414,
        "joules": None,
        "repetitions": 2,
        "scope": "8 tokens",
        "seconds": [0.001, 0.003],
    }


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    path = tmp_path / "base.json"
    path.write_text(as_json(Report([Run(FACTS, MEASURED)], {"cpu": "a processor"})))
    return Baseline(path)


def test_a_ratio_and_its_spread(baseline: Baseline) -> None:
    assert baseline.cpu == "a processor"
    found = baseline.ratio(FACTS, Measurement("text", (0.003, 0.005), "8 tokens"))
    assert found is not None
    # means .004 and .002; deviations .0014 each, 35 % of one and 71 % of the other
    assert found.value == pytest.approx(2)
    assert found.spread == pytest.approx(2 * (0.125 + 0.5) ** 0.5)


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_setting_tells_runs_apart(baseline: Baseline, setting: str) -> None:
    assert baseline.knows(FACTS, "text")
    assert not baseline.knows({**FACTS, setting: 2}, "text")


def test_an_older_file_is_one_of_clips_made_as_by_default(tmp_path: Path) -> None:
    """It lacks settings that later versions brought."""
    path = tmp_path / "base.json"
    said = {name: value for name, value in FACTS.items() if name not in LATER}
    path.write_text(as_json(Report([Run(said, MEASURED)], {"cpu": "a processor"})))
    older = Baseline(path)
    assert older.knows({**FACTS, **LATER}, "text")
    assert not older.knows({**FACTS, **LATER, "vae_tile": 64}, "text")


def test_other_settings_are_not_compared(baseline: Baseline) -> None:
    run = Run({**FACTS, "steps": 5}, MEASURED)
    assert baseline.ratio(run.facts, MEASURED[0]) is None
    table = as_markdown(Report([Run(FACTS, MEASURED), run], {}, baseline)).splitlines()
    assert table[0] == "| steps | stage | ms (mean ± sd) | ratio to before | n | what |"
    assert table[3] == "| 4 | clip | 1500.0 ± 0.0 | 1.000 ± 0.000 | 2 | prompt to file, warm |"
    assert table[5] == "| 5 | clip | 1500.0 ± 0.0 | – | 2 | prompt to file, warm |"
