"""The command line: one group whose subcommands are imported only when chosen."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import cast

import click

from .. import __version__
from ..errors import MutoscopeError, UserError, unknown
from ..interruption import EXIT_CODE, TOLD

UNREAD = 128 + signal.SIGPIPE
FULL = {errno.ENOSPC, errno.EDQUOT}
RETRY_SECONDS = 0.05
OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"
"""What PyTorch says in a `RuntimeError`: it has no type for it on a CPU."""

COMMANDS = {
    "bench": "measure every stage and whole clips here",
    "build": "a bundle → TensorRT engines, with or without a GPU here",
    "engines": "list the engines that were built, remove the useless ones",
    "export": "a trained checkpoint → a bundle",
    "generate": "a prompt → a video",
    "inspect": "what a bundle, an engine, a LoRA or a clip is, and how it was made",
    "plan": "the memory and disk that a clip will take, and whether it fits",
    "quantize": "a bundle → a bundle with fewer bits, judged on its own clips",
}


class LazyGroup(click.Group):
    """Knows its subcommands by name; each is the `command` of the module of that name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the subcommands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Import one subcommand.

        Raises:
            UserError: there is none of that name; says which is nearest.
        """
        if cmd_name not in COMMANDS:
            raise UserError(unknown("command", cmd_name, COMMANDS))
        module = importlib.import_module(f"{__package__}.{cmd_name}")
        return cast("click.Command", module.command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mutoscope")
def group() -> None:
    """Text-to-video on your own machine.

    Example: mutoscope generate "a red circle moves left to right" -o clip.mp4
    """


class Interruption(BaseException):
    """Ctrl-C or SIGTERM. click would print an empty line for a KeyboardInterrupt."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, then exit.

    With 0 done, 2 the user's mistake, 1 ours, 130 interrupted, 141 nobody reads what is printed.
    """
    logging.basicConfig(format="mutoscope: %(message)s", stream=sys.stderr)
    logging.getLogger("mutoscope").setLevel(logging.INFO)
    for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(kind, _interrupt)
    sys.unraisablehook = _interrupt_again
    try:
        _run(arguments)
    except (Interruption, ImportError, MutoscopeError) as error:
        if _interrupted(error):
            _say(TOLD)
            # an engine may be in the middle of an operation that takes seconds: do not wait for it
            os._exit(EXIT_CODE)
        if not isinstance(error, MutoscopeError):
            raise
        _fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno not in FULL:
            raise
        _say(f"cannot write: {error.strerror}; free some space or write elsewhere")
        os._exit(UserError.exit_code)  # stdout may be what is full: do not flush it once more
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and OUT_OF_MEMORY not in str(error):
            raise
        _fail(
            "this machine's memory does not suffice; close other programs, or ask for less "
            "(mutoscope plan says what a clip takes)",
            UserError.exit_code,
        )


def _run(arguments: Sequence[str] | None) -> None:
    """Let click run the command, and end as its errors and exits want."""
    stdout = sys.stdout
    try:
        group.main(arguments, prog_name="mutoscope", standalone_mode=False)
    except click.exceptions.Exit as request:
        sys.exit(request.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except SystemExit:
        if sys.stdout is stdout:
            raise
        sys.exit(UNREAD)  # click saw that a pipe is closed, and silenced what is left to print


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """End once: a second Ctrl-C must not break into the clearing up."""
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)
    raise Interruption


def _interrupted(error: BaseException | None) -> bool:
    """Whether an interruption led to the error: an extension module makes an ImportError of one."""
    while error is not None and not isinstance(error, Interruption):
        error = error.__cause__ or error.__context__
    return error is not None


def _interrupt_again(lost: sys.UnraisableHookArgs) -> None:
    """Python swallows what is raised inside a `__del__`: if that was an interruption, repeat it."""
    if issubclass(lost.exc_type, Interruption):
        signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)
    else:
        sys.__unraisablehook__(lost)


def _fail(message: str, exit_code: int) -> None:
    _say(message)
    sys.exit(exit_code)


def _say(message: str) -> None:
    click.echo(f"mutoscope: error: {' '.join(message.split())}", err=True)
