"""
A reconciliation as plain lines: one per row, then the total, what it leaves out, and the causes.

Invariant: nothing is cut; columns stand two spaces apart.
"""

from __future__ import annotations

from livekit_costmeter.reporting.reconcile.forms.words import TITLES, cells_of, finding_text, shown_rows
from livekit_costmeter.reporting.reconcile.result import Reconciliation
from livekit_costmeter.reporting.wording import aligned_lines, name_text, period_text


def reconciliation_text(found: Reconciliation) -> str:
    """Return the lines."""
    table = [list(TITLES), *(cells_of(row) for row in shown_rows(found.rows)), cells_of(found.total)]
    numbers = [position in range(2, 9) for position in range(len(TITLES))]
    currency = f", cost in {found.total.currency}" if found.total.currency else ""
    lines = [f"{name_text(found.provider)}, {period_text(found.since, found.until)}{currency}"]
    lines += aligned_lines(table, numbers)
    lines.append("percentages are of the provider's number")
    if found.left_out:
        what = "1 one-sided row is" if found.left_out == 1 else f"{found.left_out} one-sided rows are"
        lines.append(f"{what} not in the total")
    lines += [name_text(note) for note in found.notes]
    if found.findings:
        lines += ["", "causes, the one that explains most first:"]
        lines += [f"{number}. {finding_text(finding)}" for number, finding in enumerate(found.findings, 1)]
    elif found.over:
        lines += ["", "nothing that is known explains what differs"]
    return "\n".join(lines) + "\n"
