"""The loop that all stages are trained with.

A task says what is learnt; the loop does the rest: schedule, averaged weights, progress lines,
sample sheets, and a state from which it goes on after a kill. Batches and noise are functions of
seed and step alone, so an interrupted training ends where an uninterrupted one does.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset

from ...errors import MutoscopeError
from . import state
from .journal import Journal
from .optimizers import Group, Optimizer
from .recipe import Budget, Optimisation

Batch = dict[str, Tensor]
Metrics = dict[str, Tensor]

FLOOR = 0.02
GRADIENT_NORM = 1.0
SHEETS = 10
"""How many sample sheets a training writes."""


@dataclass(frozen=True)
class Phase:
    """A stretch of a training: its batches, by step, until a share of the budget is used up."""

    data: Dataset[Batch]
    until: float = 1.0


class Task(Protocol):
    """What is learnt.

    Attributes:
        name: of the stage.
        groups: of parameters.
        phases: in order; the last one's `until` is 1.
    """

    name: str
    groups: Sequence[Group]
    phases: Sequence[Phase]

    def loss(
        self, batch: Batch, random: torch.Generator, progress: float
    ) -> tuple[Tensor, Metrics]:
        """The loss of a batch, and what else to report; called under autocast."""

    def sheet(self) -> NDArray[np.uint8] | None:
        """A picture (height, width, 3) of what the averaged weights can do, if it can be shown."""


@dataclass(frozen=True)
class Run:
    """Where and how a task is trained.

    Attributes:
        folder: for the state, the log and the sheets.
        device: "cpu" or "cuda".
        budget: how long.
        seed: of noise.
        workers: processes that prepare batches.
        save_seconds: how often the state is written.
    """

    folder: Path
    device: str
    budget: Budget
    seed: int
    workers: int = 0
    save_seconds: float = 30.0


class Trainer:
    """Trains a task; afterwards its modules hold the averaged weights."""

    def __init__(self, task: Task, optimisation: Optimisation, run: Run) -> None:
        self.task = task
        self.run = run
        self.settings = optimisation
        self.optimizer = Optimizer(task.groups, optimisation)
        self.parameters = self.optimizer.parameters
        self.average = [p.detach().clone() for p in self.parameters]
        self.clock = state.load_state(run.folder, self.parameters, self.average, self.optimizer)
        self.journal = Journal(task.name, run.folder, self.clock.step)
        self._began = 0.0

    @property
    def progress(self) -> float:
        """The share of the budget that is used up."""
        return self.run.budget.progress(self.clock.step, self.clock.seconds)

    def train(self) -> None:
        """Go on from the last state to the end of the budget.

        Raises:
            MutoscopeError: the loss is no longer a number.
        """
        self._began = time.monotonic() - self.clock.seconds
        saved, sheets = self.clock.seconds, int(SHEETS * self.progress)
        for phase in self.task.phases:
            for _ in self._steps(phase):
                self.journal.tell(self.clock, self.progress)
                if self.clock.seconds - saved >= self.run.save_seconds:
                    self._save()
                    saved = self.clock.seconds
                if self.progress < 1 and int(SHEETS * self.progress) > sheets:
                    sheets = int(SHEETS * self.progress)
                    self._sheet()
        self.journal.tell(self.clock, self.progress, now=True)
        self._save()
        self._sheet()
        _swap(self.parameters, self.average)

    def _steps(self, phase: Phase) -> Iterator[None]:
        if self.progress >= phase.until:
            return
        for batch in self._batches(phase.data):
            self._step(batch)
            self.clock.step += 1
            self.clock.seconds = time.monotonic() - self._began
            yield
            if self.progress >= phase.until:
                return

    def _batches(self, data: Dataset[Batch]) -> Iterator[Batch]:
        loader = DataLoader(
            data,
            batch_size=None,
            sampler=range(self.clock.step, 1 << 40),
            num_workers=self.run.workers,
            pin_memory=self.run.device == "cuda",
        )
        for batch in loader:
            yield {name: self._placed(value) for name, value in batch.items()}

    def _placed(self, value: Tensor) -> Tensor:
        """On the device; single numbers stay, since reading one back would wait for the device."""
        return value.to(self.run.device, non_blocking=True) if value.ndim else value

    def _step(self, batch: Batch) -> None:
        random = torch.Generator(self.run.device).manual_seed(mix(self.run.seed, self.clock.step))
        with _arithmetic(self.run.device):
            loss, metrics = self.task.loss(batch, random, self.progress)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.parameters, GRADIENT_NORM)
        self.optimizer.step(self._learning_rate())
        step = self.clock.step
        decay = min(self.settings.ema, (1 + step) / (20 + step))
        _average(self.average, self.parameters, decay)
        self.journal.add({"loss": loss, **metrics, "norm": norm})

    def _learning_rate(self) -> float:
        settings, progress = self.settings, min(self.progress, 1.0)
        falling = max(0.0, progress - settings.plateau) / (1 - settings.plateau)
        share = FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * falling))
        return settings.learning_rate * share * min(1, (self.clock.step + 1) / settings.warmup)

    def _save(self) -> None:
        if not all(torch.isfinite(p).all() for p in self.parameters):
            raise MutoscopeError(
                f"{self.task.name}: the weights are no longer numbers at step {self.clock.step}; "
                "lower the learning rate in the recipe"
            )
        state.save_state(self.run.folder, self.clock, self.parameters, self.average, self.optimizer)

    def _sheet(self) -> None:
        _swap(self.parameters, self.average)
        with torch.no_grad():
            picture = self.task.sheet()
        _swap(self.parameters, self.average)
        if picture is not None:
            self.journal.show(picture, self.clock.step)


def mix(*numbers: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def parameters_of(*modules: nn.Module) -> list[nn.Parameter]:
    """All the trainable parameters of some modules."""
    return [p for module in modules for p in module.parameters() if p.requires_grad]


@contextmanager
def _arithmetic(device: str) -> Iterator[None]:
    """Matrices in bfloat16; on a CPU attention in parts.

    PyTorch's fused attention is twice as slow there as its parts when gradients are wanted.
    """
    fused = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with (
        torch.autocast(device, torch.bfloat16),
        sdpa_kernel(fused if device == "cuda" else SDPBackend.MATH),
        warnings.catch_warnings(),
    ):
        # Under autocast RMSNorm's weights stay float32: PyTorch then says that it is not fused.
        warnings.filterwarnings("ignore", "Mismatch dtype between input and weight")
        yield


@torch.no_grad()
def _average(average: Sequence[Tensor], parameters: Sequence[Tensor], decay: float) -> None:
    from torch.optim.swa_utils import get_ema_multi_avg_fn

    update: Any = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    update(average, parameters, None)


def _swap(first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for a, b in zip(first, second, strict=True):
            kept = a.clone()
            a.copy_(b)
            b.copy_(kept)
