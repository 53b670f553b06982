"""The same measurements in every format."""

from __future__ import annotations

import json

from mutoscope.bench.measure import Measurement
from mutoscope.bench.report import as_csv, as_json, as_markdown

MEASURED = [
    Measurement("text", (0.001, 0.003), "8 tokens"),
    Measurement("clip", (1.5, 1.5), "prompt to file, warm"),
]
FACTS = {"bundle": "mini", "cores": "2"}


def test_markdown() -> None:
    assert as_markdown(MEASURED, FACTS) == (
        "| stage | ms (mean ± sd) | n | what |\n"
        "| --- | --- | --- | --- |\n"
        "| text | 2.0 ± 1.4 | 2 | 8 tokens |\n"
        "| clip | 1500.0 ± 0.0 | 2 | prompt to file, warm |\n"
        "\n"
        "bundle: mini, cores: 2"
    )


def test_csv() -> None:
    assert as_csv(MEASURED, FACTS).splitlines() == [
        "stage,mean_ms,sd_ms,repetitions,scope,bundle,cores",
        "text,2.0,1.414,2,8 tokens,mini,2",
        'clip,1500.0,0.0,2,"prompt to file, warm",mini,2',
    ]


def test_json() -> None:
    whole = json.loads(as_json(MEASURED, FACTS))
    assert whole["bundle"] == "mini"
    assert whole["measurements"][0] == {
        "stage": "text",
        "mean_ms": 2.0,
        "sd_ms": 1.414,
        "repetitions": 2,
        "scope": "8 tokens",
        "seconds": [0.001, 0.003],
    }
