"""
`costmeter keys`: fingerprints for the configuration.

Invariant: the key is read from a prompt or standard input, never from an argument, and never printed, nor is whatever
was given in its place.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from livekit_costmeter.cli.options import config_option
from livekit_costmeter.config import SECRET_VARIABLE, ConfigError, load

_HOW = "a key is typed at the prompt or piped in, never given as an argument"


class _Discreet(click.Group):
    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        # Click would quote what it does not know, and it may be a key.
        if self.get_command(ctx, args[0]) is None:
            raise click.UsageError(f"no such command (there are: {', '.join(self.list_commands(ctx))}); {_HOW}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Discreet)
def keys() -> None:
    """Name keys without writing them down."""


@keys.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@config_option
@click.pass_context
def fingerprint(ctx: click.Context, config_path: str | None) -> None:
    """Print the fingerprint of a key, for `keys:` in the YAML.

    The key is asked for without echo, or read from standard input.
    """
    from livekit_costmeter.config.compose import deployment_secret
    from livekit_costmeter.metering.attribution import fingerprint as fingerprint_of

    if ctx.args:
        raise click.UsageError(f"unexpected argument; {_HOW}", ctx)
    config = load(config_path)
    key = _read_key()
    if not os.environ.get(SECRET_VARIABLE):
        where = config.spool_directory / "secret"
        click.echo(
            f"costmeter: {SECRET_VARIABLE} is not set; this fingerprint is good on this host only ({where})", err=True
        )
    try:
        found = fingerprint_of(deployment_secret(config)(), key)
    except UnicodeError:
        raise ConfigError(f"the key or {SECRET_VARIABLE} is not UTF-8 text") from None
    click.echo(found)


def _read_key() -> str:
    if sys.stdin.isatty():
        text = click.prompt("Key", hide_input=True, err=True)
    else:
        try:
            text = sys.stdin.buffer.read().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ConfigError("the key is not UTF-8 text") from None
    key = str(text).strip()
    if not key:
        raise ConfigError("no key was given")
    if len(key.split()) > 1:
        raise ConfigError("a key is one word; give one key at a time")
    return key
