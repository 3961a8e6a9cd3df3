"""
`costmeter demo`: a real call, with real plugins, against loopback providers; then who saw what, and what it cost.

Invariant: no account, no traffic but on this machine, nothing left behind unless `--keep` names a place.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from livekit_costmeter.config import ConfigError
from livekit_costmeter.records import Charge, decimal_text

_YAML = """\
project: demo
keys:
  - {owner: platform, env: OPENAI_API_KEY}
  - {owner: acme, env: ACME_DEEPGRAM_KEY, account: acme, billed_by: provider}
sinks:
  - {type: sqlite, path: ./costmeter.db}
"""
_PLATFORM_KEY = "made-up-key-of-the-platform"
_ACME_KEY = "made-up-key-of-acme"
_ANSWERS = (
    "Good morning, this is the demo line. How can I help you today?",
    (
        "Of course. Let me read you the whole list of our opening hours: on Monday we open at eight in the morning and "
        "close at six in the evening. On Tuesday we open at nine and close at seven. On Wednesday we are closed."
    ),
    "I am sorry for going on like that. We are open right now.",
)
_QUESTIONS = ("Hello, is anybody there?", "When do you open?", "Stop, please. Are you open now?")


@dataclass(frozen=True, slots=True)
class _Line:
    component: str
    model: str
    unit: str
    ledger: Decimal
    livekit: Decimal
    charges: tuple[Charge, ...]


@click.command()
@click.option(
    "--keep", type=click.Path(file_okay=False), help="Keep configuration, spool and ledger in this directory."
)
def demo(keep: str | None) -> None:
    """Run a call on this machine and show what it cost.

    Three turns with a barge-in: real plugins, simulated providers, no account.
    """
    try:
        import livekit.plugins.cartesia
        import livekit.plugins.deepgram
        import livekit.plugins.openai  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"the demo needs {error.name}: pip install 'livekit-costmeter[examples]'") from None
    logging.getLogger("livekit").setLevel(logging.ERROR)
    with _directory(keep) as directory, _environment():
        lines, charges = asyncio.run(_run(directory))
    _show(lines, charges)
    if keep:
        click.echo(f"\nkept in {keep}; look around with: cd {shlex.quote(keep)} && costmeter report", err=True)


@contextmanager
def _directory(keep: str | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="costmeter-demo-") as name:
            yield Path(name)
        return
    path = Path(keep)
    if path.exists() and any(path.iterdir()):
        raise ConfigError(f"{path}: not empty")
    path.mkdir(parents=True, exist_ok=True)
    yield path


@contextmanager
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(OPENAI_API_KEY=_PLATFORM_KEY, ACME_DEEPGRAM_KEY=_ACME_KEY)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


async def _run(directory: Path) -> tuple[list[_Line], list[Charge]]:
    from livekit_costmeter import install
    from livekit_costmeter.testing import ChatScript, ListenScript, LoopbackProviders, Script, VoiceScript

    config = directory / "costmeter.yaml"
    config.write_text(_YAML)
    meter = install(config)
    script = Script(
        chat=ChatScript(replies=_ANSWERS),
        deepgram=ListenScript(transcripts=_QUESTIONS),
        # Slow enough that the voice is still being made when the caller talks over it.
        cartesia=VoiceScript(realtime_factor=3.0),
    )
    async with LoopbackProviders(script) as providers:
        with _progress() as say:
            usage = await _call(meter, providers, say)
            say("settling: usage is priced once and written to the ledger")
            await meter.aclose()
        charges = _charges(config)
        return _compare(providers.ledger, usage, charges), charges


async def _call(meter: Any, providers: Any, say: Any) -> Any:
    from livekit.plugins import cartesia, deepgram, openai

    from livekit_costmeter import owner
    from livekit_costmeter.testing import CallDriver

    say("turn 1 of 3: a greeting")
    client = providers.openai_client(_PLATFORM_KEY)
    llm = openai.LLM(model="gpt-4o-mini", client=client)
    stt = deepgram.STT(model="nova-3", base_url=providers.deepgram_url, api_key=_ACME_KEY)
    tts = owner(cartesia.TTS(model="sonic-3", base_url=providers.cartesia_url, api_key="made-up-key"), "platform")
    async with CallDriver(stt=stt, llm=llm, tts=tts, speed=2.0) as call:
        meter.attach(call.session, account="acme", labels={"campaign": "demo"})
        await call.turn()
        say("turn 2 of 3: a long answer")
        await call.speak()
        say("turn 3 of 3: the caller talks over it")
        await call.barge_in(after=1.5)
        session = call.session
    await client.close()
    return session.usage


def _charges(config: Path) -> list[Charge]:
    from livekit_costmeter.cli.options import find_ledger

    return list(find_ledger(str(config), None).read())


_LIVEKIT_NAMES: Mapping[tuple[str, str], tuple[str, str]] = {
    ("llm", "input_tokens"): ("llm_usage", "input_tokens"),
    ("llm", "output_tokens"): ("llm_usage", "output_tokens"),
    ("stt", "audio_seconds"): ("stt_usage", "audio_duration"),
    ("tts", "characters"): ("tts_usage", "characters_count"),
}


def _compare(ledger: Any, usage: Any, charges: list[Charge]) -> list[_Line]:
    lines = []
    for (component, unit), (kind, field) in _LIVEKIT_NAMES.items():
        reported = sum(getattr(entry, field) for entry in usage.model_usage if entry.type == kind)
        own = tuple(charge for charge in charges if (charge.component, charge.unit) == (component, unit))
        model = own[0].model if own else ""
        seen = ledger.total(component=component, unit=unit)
        lines.append(_Line(component, model, unit, seen, Decimal(str(round(reported, 3))), own))
    return lines


def _show(lines: list[_Line], charges: list[Charge]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 110)
    table = Table(
        title="One call, seen three times", title_justify="left", header_style="bold", box=None, padding=(0, 2, 0, 0)
    )
    # Folded where the terminal is narrow: a number that is cut would be a wrong number.
    for name in ("", "unit", "owner of the key"):
        table.add_column(name, overflow="fold")
    for name in ("provider's ledger", "LiveKit reports", "costmeter", "cost USD"):
        table.add_column(name, justify="right", overflow="fold")
    for line in lines:
        table.add_row(*_cells(line))
    console.print(table)
    console.print()
    for source in dict.fromkeys(_source(charge) for line in lines for charge in line.charges):
        console.print(source, highlight=False, soft_wrap=True)
    _footer(console, charges)


def _cells(line: _Line) -> list[str]:
    recorded = sum((charge.quantity for charge in line.charges), Decimal(0))
    known = [charge.cost for charge in line.charges if charge.cost is not None]
    cost = decimal_text(sum(known, Decimal(0))) if len(known) == len(line.charges) else "unpriced"
    owners = ", ".join(sorted({charge.key_owner for charge in line.charges}))
    amounts = [decimal_text(line.ledger), _against(line.livekit, line.ledger), _against(recorded, line.ledger)]
    return [f"{line.component} {line.model}", line.unit, owners, *amounts, cost]


def _against(amount: Decimal, ledger: Decimal) -> str:
    text = decimal_text(amount)
    if not ledger or abs(amount - ledger) <= ledger / 100:
        return f"[green]{text}[/green]"
    return f"[red]{text} ({(amount - ledger) / ledger:+.0%})[/red]"


def _source(charge: Charge) -> str:
    if charge.unit_price is None or charge.price_per is None:
        return f"{charge.provider}/{charge.model} {charge.unit}: {charge.pricing_source}"
    price = f"{decimal_text(charge.unit_price)} {charge.currency} per {decimal_text(charge.price_per)}"
    return f"{charge.provider}/{charge.model} {charge.unit}: {price}, {charge.pricing_source.split('?')[0]}"


def _footer(console: Any, charges: list[Charge]) -> None:
    total = sum((charge.cost for charge in charges if charge.cost is not None), Decimal(0))
    billed = sum((charge.billed_cost for charge in charges if charge.billed_cost is not None), Decimal(0))
    console.print(
        f"\nThe providers charge {decimal_text(total)} USD for this call. {decimal_text(billed)} USD of it was paid "
        "with the platform's keys and goes on acme's bill; the rest is billed to acme's own key.",
        highlight=False,
    )
    unpriced = {f"{charge.provider}/{charge.model}" for charge in charges if charge.cost is None}
    if unpriced:
        console.print(f"Not priced: {', '.join(sorted(unpriced))}", highlight=False)


@contextmanager
def _progress() -> Iterator[Any]:
    if not sys.stderr.isatty():
        yield lambda text: click.echo(text, err=True)
        return
    from rich.console import Console

    with Console(stderr=True).status("starting the providers") as status:
        yield status.update
