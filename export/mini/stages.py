"""The stages of the recipe, in order: what each needs, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import UserError
from .adopt import adopt
from .recipe import MAIN, Budget, Optimisation, Recipe
from .workplace import Workplace


@dataclass(frozen=True)
class Order:
    """One training: what is made, where, and on what.

    Attributes:
        recipe: of the model.
        workplace: the folder.
        device: "cpu" or "cuda".
        budgets: by stage.
        compile: whether networks are compiled, which pays where training lasts for many minutes.
        save_seconds: how often states are written.
        checkpoint: whose models training begins with, if any.
        lora: what a distillation or a style begins with, if it is not nothing.
    """

    recipe: Recipe
    workplace: Workplace
    device: str
    budgets: dict[str, Budget]
    compile: bool = False
    save_seconds: float = 30.0
    checkpoint: Path | None = None
    lora: Path | None = None


def train(names: tuple[str, ...], order: Order) -> None:
    """Run stages, those that are finished left out, one under way from where it stopped.

    Raises:
        UserError: a stage lacks an earlier one, or the folder cannot be used.
    """
    quiet()
    _tune(order.device)
    with order.workplace.claimed(order.recipe), writing(order.workplace.path):
        if order.checkpoint is not None:
            adopt(order.workplace, order.checkpoint, "all" if names == MAIN else names[-1])
        for name in names:
            if not order.workplace.finished(name):
                STAGES[name](order)


def _vae(order: Order) -> None:
    from .vae import VaeTask

    task = VaeTask(order.recipe, order.device, order.checkpoint)
    if order.compile:
        task.compile()
    _learn(order, task, order.recipe.vae.optimisation)


def _text(order: Order) -> None:
    from .text_encoder import TextTask

    _learn(order, TextTask(order.recipe, order.device), order.recipe.text.optimisation)


def _latents(order: Order) -> None:
    from .denoiser import load_vae
    from .latents import SHARDS, Shards, encode_shards, write_statistics
    from .training import mix
    from .vae import channels_last

    recipe, workplace = order.recipe, order.workplace
    shards = Shards(recipe.shapes, recipe.shard, mix(recipe.seed, 4))
    folder = workplace.stage("latents")
    vae = channels_last(load_vae(workplace, order.device, "vae"))
    encode_shards(vae, shards, folder, order.budgets["latents"], recipe.workers)
    workplace.finish("latents", partial(write_statistics, vae, folder / SHARDS))


def _decoder(order: Order) -> None:
    from .decoder import DecoderTask

    task = DecoderTask(order.recipe, order.workplace, order.device)
    if order.compile:
        task.compile()
    _learn(order, task, order.recipe.decoder)


def _denoiser(order: Order) -> None:
    from .denoiser import DenoiserTask

    task = DenoiserTask(order.recipe, order.workplace, order.device, order.checkpoint)
    if order.compile:
        task.compile()
    _learn(order, task, order.recipe.denoiser.optimisation)


def _checkpoint(order: Order) -> None:
    from .assemble import assemble

    order.workplace.finish("checkpoint", partial(assemble, order.workplace))


def _judge(order: Order) -> None:
    from .judge import JudgeTask

    task = JudgeTask(order.recipe, order.workplace, order.device)
    _learn(order, task, order.recipe.judge.optimisation)


def _distill(order: Order) -> None:
    from .distill import DistilledTask

    task = DistilledTask(order.recipe, order.workplace, order.device, order.lora)
    _learn(order, task, order.recipe.distilled.optimisation)


def _lora(order: Order) -> None:
    from .lora import LoraTask

    task = LoraTask(order.recipe, order.workplace, order.device, order.lora)
    _learn(order, task, order.recipe.lora.optimisation)


STAGES: dict[str, Callable[[Order], None]] = {
    "vae": _vae,
    "text": _text,
    "latents": _latents,
    "decoder": _decoder,
    "dit": _denoiser,
    "checkpoint": _checkpoint,
    "judge": _judge,
    "distill": _distill,
    "lora": _lora,
}


def quiet() -> None:
    """No progress bars for reading and writing small files."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def _tune(device: str) -> None:
    """Let cuDNN try its convolutions on the few shapes there are, and keep the fastest."""
    if device == "cuda":
        import torch

        torch.backends.cudnn.benchmark = True


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say in one line why a file could not be written or read; what was there is still whole."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"work in {folder} stopped: {reason}; once that is put right, the same command "
            "goes on from the last state"
        ) from error


def _learn(order: Order, task: Any, optimisation: Optimisation) -> None:
    """Train a task, keep its result, and drop the state that led there."""
    from . import state
    from .training import Run, Trainer, mix

    recipe, workplace = order.recipe, order.workplace
    run = Run(
        workplace.stage(task.name),
        order.device,
        order.budgets[task.name],
        mix(recipe.seed, *task.name.encode()),
        recipe.workers,
        order.save_seconds,
    )
    Trainer(task, optimisation, run).train()
    workplace.finish(task.name, task.save)
    (run.folder / state.FILE).unlink()
