"""
The options of `costmeter estimate`.

Invariant: every default is shown by `--help`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from livekit_costmeter.billing.estimates.profiles import CHANNELS
from livekit_costmeter.cli.estimate.request import DEFAULTS, OWNED, Amount, Length
from livekit_costmeter.cli.options import Instant

Command = Callable[..., None]
_COUNT = click.IntRange(0, 100_000_000)


def call_options(command: Command) -> Command:
    """Add what describes one call."""
    return _with(
        command,
        _option("--minutes", Length(), "From answer to hang-up, such as 3.5 or 3:30.", default="5"),
        _option("--talk-ratio", Amount("0", "1"), "Share of the time that the agent speaks.", default="0.5"),
        _option(
            "--turns", click.IntRange(1, 10_000), "Answers of the agent; in a chat, messages. Default: 2 a minute."
        ),
        _option("--input-tokens", _COUNT, "Read by the LLM per turn, history included.", default=800),
        _option("--cached-input-tokens", _COUNT, "Read from its cache per turn, on top of these.", default=0),
        _option("--output-tokens", _COUNT, "Written by the LLM per turn.", default=60),
        _option("--characters-per-minute", Amount("0", "100000"), "Pace of the agent's speech.", default="850"),
        _option("--characters", _COUNT, "Spoken by the agent per call. Default: its share of the time at its pace."),
        _option("--channel", click.Choice(CHANNELS), "Default: inbound with --telephony, else web."),
    )


def comparison_options(command: Command) -> Command:
    """Add what is compared: models, carriers, plans, owners."""
    return _with(
        command,
        _models("--llm", f"Default: {DEFAULTS['llm']}."),
        _models("--stt", f"Default: {DEFAULTS['stt']}."),
        _models("--tts", f"Default: {DEFAULTS['tts']}."),
        _models("--realtime", "In the place of the other three, unless they are named too."),
        click.option("--telephony", multiple=True, metavar="PROVIDER", help="Carrier of the call; default: left out."),
        click.option("--number-type", metavar="TYPE", help="Of the number, for plans that look at it."),
        click.option(
            "--owner",
            multiple=True,
            metavar="COMPONENT=NAME",
            help=f"Whose key or number pays: platform (default) or an account. One of {', '.join(OWNED)}, all.",
        ),
        click.option(
            "--plan", "plans", multiple=True, metavar="FILE[#NAME]", help="Bill by this plan; default: as configured."
        ),
        click.option("--account", metavar="NAME", help="Bill by this account's plan; of a ledger, its calls only."),
        click.option("--priority", is_flag=True, help="Priority prices of the plans."),
    )


def answer_options(command: Command) -> Command:
    """Add what the answer is to show."""
    return _with(
        command,
        _option("--at", Instant(), "With the prices of this instant; default: now."),
        _option(
            "--calls-per-month", click.IntRange(1, 1_000_000_000), "Default: 1000; of a ledger, as many as it shows."
        ),
        _option("--max-per-minute", Amount("0", "1000000"), "Budget: say which fits, in the currency of the bill."),
        click.option("--show-records", is_flag=True, help="Print the usage that is rated, for costmeter rate."),
    )


def ledger_options(command: Command) -> Command:
    """Add what picks the calls of a ledger."""
    return _with(
        command,
        click.option("--like-ledger", is_flag=True, help="Learn from the calls of a ledger; models replace theirs."),
        click.option("--agent", metavar="NAME", help="Only this agent's calls."),
    )


def _option(name: str, kind: Any, text: str, default: Any = None) -> Callable[[Command], Command]:
    return click.option(name, type=kind, default=default, show_default=default is not None, help=text)


def _models(name: str, text: str) -> Callable[[Command], Command]:
    explained = f"Several are compared; none leaves it out. {text}"
    return click.option(name, multiple=True, metavar="PROVIDER/MODEL", help=explained)


def _with(command: Command, *options: Callable[[Command], Command]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
