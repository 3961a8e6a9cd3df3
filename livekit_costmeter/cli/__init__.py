"""
The command line: thin. Parse, call, print.

Invariant: results go to stdout, messages to stderr; exit code 0 is fine, 1 found something, 2 usage or configuration.
Each command's module is imported only when that command runs.
"""

from __future__ import annotations

import importlib
import os
import sys

import click

from livekit_costmeter import __version__

_COMMANDS = {
    "check": "setup",
    "demo": "demo",
    "export": "ledger",
    "init": "setup",
    "keys": "keys",
    "prices": "prices",
    "rate": "rate",
    "report": "ledger",
    "ship": "ship",
    "tail": "ledger",
}


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


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="costmeter")
def costmeter() -> None:
    """Know what every LiveKit agent call costs, on whose key, and why."""


def main() -> None:
    """Run the command line and exit."""
    from livekit_costmeter.config import ConfigError

    try:
        costmeter(prog_name="costmeter", standalone_mode=True)
    except ConfigError as error:
        click.echo(f"costmeter: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        # The reader went away (`costmeter export | head`); nothing more can be said on stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
