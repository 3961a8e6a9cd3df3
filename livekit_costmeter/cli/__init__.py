"""
The command line: thin. Parse, call, print.

Invariant: results go to stdout, messages to stderr; exit code 0 is fine, 1 found something, 2 usage, configuration or
something that cannot be read or written. What can go wrong outside is one line; a traceback is a bug of ours, and exits
with 70. Each command's module is imported only when that command runs.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from livekit_costmeter import __version__

_COMMANDS = {
    "demo": "demo",
    "init": "setup",
    "check": "setup",
    "report": "ledger",
    "export": "ledger",
    "tail": "tail",
    "rate": "rate",
    "prices": "prices",
    "estimate": "estimate",
    "keys": "keys",
    "ship": "ship",
    "backfill": "backfill",
    "reprice": "reprice",
    "reconcile": "reconcile",
}
_INTERRUPTED = 130
_BUG = 70
_LONGEST = 1000


class Failure(click.ClickException):
    """Something outside is wrong: one printable line on stderr, exit code 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """Print the line."""
        text = "".join(char if char.isprintable() else " " for char in self.message)
        # What was found stands at the beginning, what is allowed at the end.
        shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
        click.echo(f"costmeter: {shown}", file=file, err=True)


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        home = _COMMANDS.get(cmd_name)
        if home is None:
            return None
        command = getattr(importlib.import_module(f"livekit_costmeter.cli.{home}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # On a narrow terminal a line wraps; Click would cut it.
        found = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [(name, command.get_short_help_str(limit=200)) for name, command in found if command is not None]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _manners():  # help is printed here
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _manners():
            return super().invoke(ctx)


@contextmanager
def _manners() -> Iterator[None]:
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _mute()  # the reader went away (`costmeter export | head`), and that is its right
        raise click.exceptions.Exit(0) from None
    except (KeyboardInterrupt, click.Abort):
        raise click.exceptions.Exit(_INTERRUPTED) from None
    except Exception as error:
        _explain(error)


def _explain(error: Exception) -> NoReturn:
    from livekit_costmeter.config import ConfigError
    from livekit_costmeter.delivery.sinks import SinkError

    if isinstance(error, ConfigError | SinkError):
        raise Failure(str(error)) from None
    if isinstance(error, OSError):
        if error.filename is None:
            _mute()  # it was stdout, and whatever is left in its buffer would fail again on the way out
        raise Failure(": ".join(str(part) for part in (error.filename, error.strerror or error) if part)) from None
    raise error


def _mute() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="costmeter")
def costmeter() -> None:
    """Know what every LiveKit agent call costs, on whose key, and why."""


def main() -> None:
    """Run the command line and exit."""
    _prepare_streams()
    try:
        costmeter(prog_name="costmeter")
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(_BUG)


def _prepare_streams() -> None:
    # A stream may be closed (`>&-`), and in some locales it could not write every name.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - lives as long as we do
        elif name != "stdin":
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
