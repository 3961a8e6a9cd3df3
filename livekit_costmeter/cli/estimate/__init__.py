"""
`costmeter estimate`: what calls will cost, from a few numbers or from the calls of a ledger.

Invariant: the prices, plans and exchange rates are those that live usage is rated with; `--show-records` prints the
usage of an estimate, which `costmeter rate` prices the same.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from livekit_costmeter.cli.estimate.options import answer_options, call_options, comparison_options, ledger_options
from livekit_costmeter.cli.options import config_option, format_option, period_options, sink_option
from livekit_costmeter.config import load


@click.command()
@call_options
@comparison_options
@answer_options
@ledger_options
@period_options
@format_option("text", "json", "csv")
@sink_option
@config_option
def estimate(**options: Any) -> None:
    """Estimate what calls will cost.

    Describe one call, or learn from a ledger with --like-ledger. Where models, carriers or plans are given several
    times, every combination is compared, and the cheapest that fits is named.
    """
    from livekit_costmeter.cli.estimate.asking import Asking

    asking = Asking(load(options["config_path"]), options)
    if options["show_records"]:
        for line in asking.record_lines():
            click.echo(line)
        return
    _show(asking.answer(), options["form"])


def _show(answer: Any, form: str) -> None:
    from livekit_costmeter.cli.estimate.answer import answer_csv, answer_json
    from livekit_costmeter.cli.estimate.table import answer_text, print_answer

    if form == "json":
        click.echo(answer_json(answer))
    elif form == "csv":
        click.echo(answer_csv(answer), nl=False)
    elif sys.stdout.isatty():
        from rich.console import Console

        print_answer(answer, Console())
    else:
        click.echo(answer_text(answer), nl=False)
