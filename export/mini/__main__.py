"""`python -m mutoscope.export.mini`: train and evaluate the embedded model."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from ...errors import MissingExtraError, MutoscopeError, UserError

INTERRUPTED = 130
NEEDED = ("torch", "diffusers", "transformers", "safetensors", "PIL")
DEVICES = ("auto", "cpu", "cuda")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """Train the embedded model from nothing, and measure it.

    Example: python -m mutoscope.export.mini train all --out out/mini
    """
    for package in NEEDED:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError({"PIL": "pillow"}.get(package, package), "export")


@group.command("train")
@click.argument("stage")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to work in.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", help="auto: a GPU if any.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--minutes", type=click.FloatRange(0), help="Time for all chosen stages together.")
@click.option("--steps", type=click.IntRange(0), help="Steps of each stage instead of minutes.")
@click.option(
    "--from",
    "checkpoint",
    type=click.Path(path_type=Path),
    help="A checkpoint, or a part of one, to begin with: for all, vae, decoder, judge, distill, "
    "lora.",
)
@click.option(
    "--lora",
    type=click.Path(path_type=Path),
    help="One that distill or lora made, to go on with.",
)
@click.option(
    "--compile", "compiled", is_flag=True, help="Compile the networks: a few minutes, then faster."
)
def train_command(
    stage: str,
    out: Path,
    device: str,
    seed: int,
    minutes: float | None,
    steps: int | None,
    checkpoint: Path | None,
    lora: Path | None,
    compiled: bool,
) -> None:
    """Train STAGE: vae, text, latents, decoder, dit, checkpoint, or all of these.

    From the trained denoiser go out: judge (of what latents show; the next
    one needs it), distill (four steps without guidance), lora (a style).

    Finished stages are left alone; one that was interrupted goes on from its last state. The same
    command does both: run it again until it is through.

    Example: python -m mutoscope.export.mini train all --out out/mini

    Example: python -m mutoscope.export.mini train lora --from CHECKPOINT --out out/style
    """
    from .recipe import TUNED, budgets, chosen, recipe_for
    from .stages import Order, train
    from .workplace import Workplace

    if lora is not None and stage not in TUNED:
        raise UserError(f"--lora is for {' and '.join(TUNED)}, not for {stage!r}")
    names = chosen(stage, adopted=checkpoint is not None)
    device = _device(device)
    recipe = recipe_for(device, seed)
    plan = budgets(recipe, names, minutes, steps)
    place = Workplace(out)
    train(names, Order(recipe, place, device, plan, compiled, checkpoint=checkpoint, lora=lora))


@group.command("evaluate")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--device", type=click.Choice(DEVICES), default="auto", help="auto: a GPU if any.")
@click.option("--prompts", type=click.IntRange(1), default=208, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=30, show_default=True)
@click.option("--guidance", type=click.FloatRange(0), default=4.0, show_default=True)
@click.option(
    "--shift-terminal",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SIGMA",
    help="The last sigma before 0, e.g. 0.4 for four steps.",
)
@click.option("--lora", type=click.Path(path_type=Path), help="Added to the denoiser.")
def evaluate_command(
    checkpoint: Path,
    target: Path,
    device: str,
    prompts: int,
    steps: int,
    guidance: float,
    shift_terminal: float | None,
    lora: Path | None,
) -> None:
    """Measure CHECKPOINT on held-out prompts; writes table, records and a sheet into TARGET.

    Example: python -m mutoscope.export.mini evaluate out/mini/checkpoint/model out/scores
    """
    from .evaluate import Sampling, evaluate
    from .recipe import SHAPES
    from .stages import quiet, writing

    quiet()
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
        sampling = Sampling(prompts, SHAPES[0], steps, guidance, shift_terminal)
        click.echo(evaluate(checkpoint, target, sampling, _device(device), lora))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, then exit: 0 done, 2 the user's mistake, 1 ours, 130 interrupted."""
    try:
        group.main(arguments, prog_name="python -m mutoscope.export.mini", standalone_mode=False)
    except click.exceptions.Exit as request:
        sys.exit(request.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except MutoscopeError as error:
        _fail(str(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted; the same command goes on from the last state", INTERRUPTED)


def _device(name: str) -> str:
    import torch

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("PyTorch finds no CUDA device here; use --device cpu")
    return ("cuda" if available else "cpu") if name == "auto" else name


def _fail(message: str, exit_code: int) -> None:
    click.echo(f"mutoscope: error: {' '.join(message.split())}", err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
