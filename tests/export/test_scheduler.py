import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mutoscope.engine.manifest import SchedulerSpec
from mutoscope.errors import CheckpointError
from mutoscope.export.checkpoint import Checkpoint
from mutoscope.export.scheduler import scheduler
from mutoscope.runtime.schedulers import SCHEDULERS

FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 5.0}


def read(folder: Path, **config: Any) -> SchedulerSpec:
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    return scheduler(Checkpoint.open(folder))


@pytest.mark.parametrize(
    ("config", "name", "shift"),
    [
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, "euler", 3.0),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "euler", 1.0),
        ({"_class_name": "UniPCMultistepScheduler", **FLOW}, "unipc", 5.0),
        ({"_class_name": "DPMSolverMultistepScheduler", **FLOW}, "dpmpp-2m", 5.0),
    ],
)
def test_diffusers_schedulers_have_their_counterparts(
    folder: Path, config: dict[str, Any], name: str, shift: float
) -> None:
    assert read(folder, **config) == SchedulerSpec(name=name, shift=shift, train_timesteps=1000)
    assert name in SCHEDULERS


def test_a_terminal_sigma_is_kept(folder: Path) -> None:
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
    assert read(folder, **config, shift_terminal=0.4).shift_terminal == 0.4
    assert read(folder, **config, shift_terminal=None).shift_terminal is None


def test_the_number_of_training_steps_is_kept(folder: Path) -> None:
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 500}
    assert read(folder, **config).train_timesteps == 500


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"_class_name": "DDIMScheduler"},
            (
                "DDIMScheduler has no counterpart (known: FlowMatchEulerDiscreteScheduler, "
                "UniPCMultistepScheduler, DPMSolverMultistepScheduler)"
            ),
        ),
        (
            {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True},
            "use_dynamic_shifting is True; only False is supported",
        ),
        (
            {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift_terminal": 1.5},
            "shift_terminal is 1.5; it must lie between 0 and 1",
        ),
        (
            {"_class_name": "UniPCMultistepScheduler"},
            "prediction_type is 'epsilon'; only 'flow_prediction' is supported",
        ),
        (
            {"_class_name": "UniPCMultistepScheduler", **FLOW, "solver_order": 3},
            "solver_order is 3; only 2 is supported",
        ),
        (
            {"_class_name": "DPMSolverMultistepScheduler", **FLOW, "algorithm_type": "sde"},
            "algorithm_type is 'sde'; only 'dpmsolver++' is supported",
        ),
    ],
)
def test_others_are_refused(folder: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError) as error:
        read(folder, **config)
    assert str(error.value) == f"{folder}/scheduler/scheduler_config.json: {message}"


def test_a_scheduler_without_a_file(folder: Path, change_index: Callable[..., None]) -> None:
    change_index(scheduler=[None, None])
    with pytest.raises(CheckpointError) as error:
        scheduler(Checkpoint.open(folder))
    assert str(error.value) == f"{folder} lacks its scheduler folder; download the checkpoint again"
