"""
`costmeter reconcile`: the provider's own numbers beside the ledger's, why they differ, and the booking of that.

Invariant: exit code 0 is agreement within the thresholds, 1 is more than that, 2 is something that cannot be read; then
nothing is booked. The ledger and the files are only read, except with `--book`.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from livekit_costmeter.cli.options import (
    Instant,
    config_option,
    destination,
    find_ledger,
    format_option,
    output_option,
    sink_option,
)
from livekit_costmeter.cli.reconcile.booking import book_difference
from livekit_costmeter.cli.reconcile.sources import Job, read_thresholds
from livekit_costmeter.config import ConfigError, load
from livekit_costmeter.config.reconcile import reconcile_settings

_FILE = click.Path(dir_okay=False, exists=True, path_type=Path)


@click.command()
@click.option("--provider", required=True, metavar="NAME", help="Whose numbers: openai, deepgram, ...")
@click.option("--since", type=Instant(), required=True, help="From this instant on (UTC; a date is its midnight).")
@click.option("--until", type=Instant(), required=True, help="Before this instant (exclusive, UTC).")
@click.option("--usage-file", "usage_files", multiple=True, type=_FILE, help="An export of usage; may be repeated.")
@click.option("--cost-file", "cost_files", multiple=True, type=_FILE, help="An export of costs; may be repeated.")
@click.option("--as", "format_name", metavar="FORMAT", help="The format of the files, where it is not recognised.")
@click.option("--from-api", is_flag=True, help="Fetch the numbers with an admin key from the environment.")
@click.option("--keep-pages", type=click.Path(file_okay=False, path_type=Path), help="Keep what --from-api fetches.")
@click.option("--by", type=click.Choice(("model", "day", "key")), default="model", show_default=True)
@click.option(
    "--account-keys",
    type=click.Choice(("out", "in")),
    default="out",
    show_default=True,
    help="Whether work on accounts' own keys is compared.",
)
@click.option(
    "--threshold", "thresholds", multiple=True, metavar="[COMPONENT=]PERCENT", help="How much cost may differ."
)
@click.option("--book", "booking", is_flag=True, help="Book the difference, after showing it.")
@click.option("--yes", is_flag=True, help="Book without asking.")
@click.option(
    "--suggest-rate-card",
    "card",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write the rate card that would have agreed.",
)
@format_option("text", "json", "csv", "html")
@output_option
@sink_option
@config_option
def reconcile(
    provider: str,
    since: datetime,
    until: datetime,
    usage_files: tuple[Path, ...],
    cost_files: tuple[Path, ...],
    format_name: str | None,
    from_api: bool,
    keep_pages: Path | None,
    by: str,
    account_keys: str,
    thresholds: tuple[str, ...],
    booking: bool,
    yes: bool,
    card: str | None,
    form: str,
    output: str,
    sink_name: str | None,
    config_path: str | None,
) -> None:
    """Compare the ledger with a provider's own numbers.

    Reads the provider's exports as they are, shows units and cost on both sides, and says what explains a difference.
    With --book also books it, as corrections that go to every sink. Exits with 1 where more differs than may.
    """
    if since >= until:
        raise click.UsageError("--until must be later than --since")
    if not (usage_files or cost_files or from_api):
        raise click.UsageError("give --usage-file, --cost-file or --from-api")
    if booking and by == "key":
        raise click.UsageError("--book is about the whole invoice: leave out --by key")
    config = load(config_path)
    settings = reconcile_settings(config)
    limits = read_thresholds(settings, thresholds)
    ledger = find_ledger(config_path, sink_name)
    if ledger.absence:
        raise ConfigError(ledger.absence)
    job = Job.of(config, settings, ledger, provider, (since, until), by=by, account_keys=account_keys == "in")
    job.is_digested = booking or card is not None
    job.read_provider(usage_files, cost_files, format_name, from_api=from_api, keep_pages=keep_pages)
    found = job.compare(limits)
    with destination(output) as stream:
        stream.write(_forms()[form](found))
    if card is not None:
        _suggest(card, job, found)
    if booking:
        book_difference(job, yes=yes)
    if found.over:
        raise click.exceptions.Exit(1)


def _forms() -> dict[str, Any]:
    from livekit_costmeter.reporting import reconcile as forms

    return {
        "text": forms.reconciliation_text,
        "json": forms.reconciliation_json,
        "csv": forms.reconciliation_csv,
        "html": forms.reconciliation_html,
    }


def _suggest(path: str, job: Job, found: Any) -> None:
    from livekit_costmeter.reporting.reconcile import rate_card

    text = rate_card(job.provider, job.digest, found.findings)
    if text is None:
        click.echo("costmeter: no rate differs, so there is no rate card to suggest", err=True)
        return
    with destination(path) as stream:
        stream.write(text)
    click.echo(f"costmeter: wrote {path}; put it first in pricing.rate_cards", err=True)
