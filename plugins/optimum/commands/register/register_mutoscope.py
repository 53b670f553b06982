"""`optimum-cli export mutoscope`: `mutoscope export`, where users of optimum look for exporters.

Optimum's command line imports every file of this namespace folder whenever it starts: nothing of
Mutoscope is imported before the command runs. The folder has no `__init__.py`; other exporters
install their files beside this one.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand

OPTIONS: dict[str, dict[str, Any]] = {
    "--precision": {"help": "fp32 (default) or fp16; what has to be fp32 in fp16 stays so."},
    "--graphs": {"metavar": "A,B", "help": "Only these and the denoiser; by default all."},
    "--default": {
        "metavar": "KEY=VALUE",
        "action": "append",
        "default": [],
        "help": "Change the default request, e.g. width=64; may be repeated.",
    },
    "--lora": {
        "metavar": "FILE",
        "action": "append",
        "default": [],
        "help": "Goes along, to be asked for by its name; may be repeated.",
    },
    "--preset": {
        "metavar": "NAME:KEY=VALUE,…",
        "action": "append",
        "default": [],
        "help": "A way to make clips, e.g. fast:lora=NAME,steps=4,guidance_scale=1; may be "
        "repeated, the first is the default.",
    },
    "--max-sequence-length": {
        "metavar": "TOKENS",
        "help": "What prompts are padded or cut to; by default what the family was trained on.",
    },
    "--name": {"help": "Of the bundle; by default its folder's."},
    "--license": {"metavar": "SPDX", "help": "Of the weights, e.g. Apache-2.0."},
    "--verify": {"action": "store_true", "help": "Compare every graph, and a clip, with PyTorch."},
    "--overwrite": {"action": "store_true", "help": "Replace a bundle that is there."},
    "--json": {"action": "store_true", "help": "Print one JSON object."},
}
"""Those of `mutoscope export`, which says what is wrong with their values."""


class MutoscopeExportCommand(BaseOptimumCLICommand):  # type: ignore[misc]
    """A checkpoint → a Mutoscope bundle."""

    COMMAND = CommandInfo(
        name="mutoscope",
        help="Export a text-to-video checkpoint to a Mutoscope bundle, which runs without PyTorch.",
    )

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument(
            "-m",
            "--model",
            required=True,
            help="A folder in diffusers' format, or a model on the Hub: org/name[@revision].",
        )
        parser.add_argument("output", help="The folder to write the bundle to.")
        for option, about in OPTIONS.items():
            parser.add_argument(option, **about)

    def run(self) -> None:
        """Do as `mutoscope export` does, errors and exit codes included."""
        from mutoscope.cli import main

        main(["export", *self._options(), "--", self.args.model, self.args.output])

    def _options(self) -> list[str]:
        given: list[str] = []
        for option in OPTIONS:
            value = getattr(self.args, option.removeprefix("--").replace("-", "_"))
            if value is True:
                given.append(option)
            elif value:
                values = value if isinstance(value, list) else [value]
                given += [f"{option}={text}" for text in values]
        return given


REGISTER_COMMANDS = [(MutoscopeExportCommand, ExportCommand)]
