"""
`--book`: the corrections that make the ledger equal to the invoice.

Invariant: what is booked is computed anew while nobody else books here, so that two who book the same book it once.
"""

from __future__ import annotations

import sys

import click

from livekit_costmeter.cli.reconcile.sources import Job
from livekit_costmeter.config import ConfigError
from livekit_costmeter.delivery.files.booking import book, booking_turn
from livekit_costmeter.reporting.reconcile import Invoice, Thresholds, corrections


def book_difference(job: Job, *, yes: bool) -> None:
    """Book what differs, after asking where there is somebody to ask.

    Raises:
        ConfigError: The provider's files have no money.
    """
    if not job.theirs.states_costs:
        raise ConfigError("the provider's files have no costs, so there is nothing to book (give --cost-file)")
    if not yes and sys.stdin.isatty():
        click.confirm("Book corrections so that the ledger equals the provider's cost?", abort=True, err=True)
    directory = job.config.spool_directory
    with booking_turn(directory):
        found = job.compare(Thresholds({}))
        charges = corrections(found.sides, found.window, Invoice(job.provider, job.digest))
        booked = book(charges, directory, [sink.name for sink in job.config.sinks], reason="reconcile")
    if not booked.charges:
        click.echo("costmeter: there is nothing to book", err=True)
        return
    what = "1 correction" if booked.charges == 1 else f"{booked.charges} corrections"
    click.echo(f"booked {what} with invoice:{job.digest}; they are delivered by whoever ships", err=True)
