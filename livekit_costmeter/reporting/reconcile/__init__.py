"""
The provider's own numbers beside the ledger's.

Invariant: neither side is changed to fit. A provider's file is read as it is or refused; a difference is shown,
explained and, where the user says so, booked.
"""

from livekit_costmeter.reporting.reconcile.adjusting import Invoice, corrections
from livekit_costmeter.reporting.reconcile.diagnosis import CAUSES, Finding, NewRate
from livekit_costmeter.reporting.reconcile.forms import (
    reconciliation_csv,
    reconciliation_html,
    reconciliation_json,
    reconciliation_text,
)
from livekit_costmeter.reporting.reconcile.lines import CREDITS, ExportError, ProviderLine
from livekit_costmeter.reporting.reconcile.matching import LedgerSide, ProviderSide, Thresholds
from livekit_costmeter.reporting.reconcile.recognition import Parser, known_parsers, open_export
from livekit_costmeter.reporting.reconcile.result import Question, Reconciliation, reconcile
from livekit_costmeter.reporting.reconcile.suggestion import rate_card

__all__ = [
    "CAUSES",
    "CREDITS",
    "ExportError",
    "Finding",
    "Invoice",
    "LedgerSide",
    "NewRate",
    "Parser",
    "ProviderLine",
    "ProviderSide",
    "Question",
    "Reconciliation",
    "Thresholds",
    "corrections",
    "known_parsers",
    "open_export",
    "rate_card",
    "reconcile",
    "reconciliation_csv",
    "reconciliation_html",
    "reconciliation_json",
    "reconciliation_text",
]
