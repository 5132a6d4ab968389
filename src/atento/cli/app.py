"""The `atento` program: its commands, and how it ends when something goes wrong."""

import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from atento import __version__
from atento._errors import AtentoError
from atento.cli.diff import diff
from atento.cli.doctor import doctor
from atento.cli.explain import explain
from atento.cli.generate import generate
from atento.cli.heads import heads
from atento.cli.index import index
from atento.cli.inspect import inspect
from atento.cli.lessons import lessons
from atento.cli.output import ReaderLeft
from atento.cli.search import search
from atento.cli.serve import serve
from atento.cli.train import train
from atento.cli.watch import watch

__all__ = ["app", "main"]

MISTAKE = 2
INTERRUPTED = 130
CLOSED_PIPE = 141  # what a shell reports for a program that SIGPIPE ended
NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))

# without rich markup and rich tracebacks, typer loads in half the time, and bugs keep their own
# plain traceback
app = typer.Typer(
    name="atento",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(explain)
app.command()(inspect)
app.command()(heads)
app.command()(diff)
app.command()(search)
app.add_typer(index)
app.command()(serve)
app.command()(train)
app.command()(watch)
app.command()(generate)
app.command()(lessons)
app.command()(doctor)

# UsageError's parent: whatever typer raises about how it was called
_UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"atento {__version__}")
        raise typer.Exit


@app.callback()
def _atento(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """See attention: every step of it, on your own text and numbers."""
    del version


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns its exit code.

    0: done. 1: a check failed. 2: a mistake of the caller, told in one line. 130: interrupted.
    Anything unexpected is a bug and keeps its traceback.
    """
    if sys.stdout is None:  # closed by `>&-`
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  as long as we run
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a character must not end us
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(args=arguments, prog_name="atento", standalone_mode=False)
    except AtentoError as error:
        return _tell(str(error), MISTAKE)
    except _UsageProblem as error:
        from atento.cli.usage import said

        return _tell(said(error, sys.argv[1:] if arguments is None else arguments), MISTAKE)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except ReaderLeft:
        return CLOSED_PIPE
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        return _tell(_no_room(), MISTAKE)
    return code if isinstance(code, int) else 0


def _no_room() -> str:
    from atento.views.words import choose_language, words

    return words(choose_language())("error.no_room")


def _tell(message: str, code: int) -> int:
    if message.startswith("Usage:"):
        print(message, file=sys.stderr)
        return code
    from atento.views.terminal_text import visible

    print(f"atento: {visible(' '.join(message.split()))}", file=sys.stderr)
    return code
