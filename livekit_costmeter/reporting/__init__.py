"""
What was spent: reading a ledger, grouping its charges, showing and exporting them.

Invariant: nothing is hidden. A sum that lacks a price says so, an estimate shows its share, and currencies never mix.
"""

from livekit_costmeter.reporting.audit import Audit, AuditRow, build_audit
from livekit_costmeter.reporting.audit_formats import audit_csv, audit_json, audit_text, print_audit
from livekit_costmeter.reporting.export import BINARY_FORMATS, EXPORT_FORMATS, CannotExport, write_export
from livekit_costmeter.reporting.focus import FOCUS_VERSIONS, FocusOptions, FocusSummary, write_focus
from livekit_costmeter.reporting.following import follow
from livekit_costmeter.reporting.formats import report_csv, report_fields, report_json
from livekit_costmeter.reporting.ledger import DIMENSIONS, Ledger, UnknownDimension, dimension, select, within
from livekit_costmeter.reporting.report import Report, Row, build_report
from livekit_costmeter.reporting.table import print_report, report_table, report_text
from livekit_costmeter.reporting.tally import UnpricedModel

__all__ = [
    "BINARY_FORMATS",
    "DIMENSIONS",
    "EXPORT_FORMATS",
    "FOCUS_VERSIONS",
    "Audit",
    "AuditRow",
    "CannotExport",
    "FocusOptions",
    "FocusSummary",
    "Ledger",
    "Report",
    "Row",
    "UnknownDimension",
    "UnpricedModel",
    "audit_csv",
    "audit_json",
    "audit_text",
    "build_audit",
    "build_report",
    "dimension",
    "follow",
    "print_audit",
    "print_report",
    "report_csv",
    "report_fields",
    "report_json",
    "report_table",
    "report_text",
    "select",
    "within",
    "write_export",
    "write_focus",
]
