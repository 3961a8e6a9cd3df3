"""
A reconciliation for people and for programs: text, JSON, CSV, HTML.

Invariant: all say the same. Text and HTML round to be read, JSON and CSV are exact; a percentage that does not exist is
`n/a` or null, never 0.
"""

from livekit_costmeter.reporting.reconcile.forms.data import reconciliation_csv, reconciliation_json
from livekit_costmeter.reporting.reconcile.forms.html import reconciliation_html
from livekit_costmeter.reporting.reconcile.forms.text import reconciliation_text

__all__ = ["reconciliation_csv", "reconciliation_html", "reconciliation_json", "reconciliation_text"]
