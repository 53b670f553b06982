"""Rates beside the ceilings that another part has measured."""

from __future__ import annotations

from mutoscope.bench.gpu_shares import NOT_MEASURED, with_shares

CEILINGS = {"state": "done", "float16_tflop_s": 200.0, "int8_top_s": 600.0}


def test_a_rate_is_set_against_its_precision_s_ceiling() -> None:
    results = {
        "small": False,
        "wan": {"state": "done", "precision": "fp16", "run_ms": 2.0, "tflop_s": 50.0},
        "vae": {"first": {"precision": "fp16", "tflop_s": 150.0}},
        "kernels": {"kernels": {"attention": {"precision": "int8+fp16", "tflop_s": 150.0}}},
        "ceilings": CEILINGS,
    }
    told = with_shares(results)
    assert told["wan"]["share_of_ceiling"] == 0.25
    assert told["vae"]["first"]["share_of_ceiling"] == 0.75
    # two halves: 1 / 200 and 1 / 600 of a second each, so 300 at most
    assert told["kernels"]["kernels"]["attention"]["share_of_ceiling"] == 0.5
    assert told["ceilings"] == CEILINGS
    assert "share_of_ceiling" not in results["wan"]  # type: ignore[operator]


def test_without_a_ceiling_it_says_so() -> None:
    wan = {"precision": "bf16", "tflop_s": 50.0}
    assert with_shares({"wan": wan})["wan"]["share_of_ceiling"] == NOT_MEASURED
    told = with_shares({"wan": wan, "ceilings": CEILINGS})
    assert told["wan"]["share_of_ceiling"] == NOT_MEASURED
    told = with_shares({"wan": wan, "ceilings": {"bfloat16_tflop_s": 0.0}})
    assert told["wan"]["share_of_ceiling"] == NOT_MEASURED
