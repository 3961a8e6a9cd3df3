"""
Charges as FOCUS, the FinOps Open Cost and Usage Specification, versions 1.2 to 1.4.

Invariant: one row per charge, conformant by the lint of focus-data-toolkit, and never silently 0: what is not known is
marked in the row and counted in the summary.
"""

from livekit_costmeter.reporting.focus.columns import FOCUS_VERSIONS, focus_columns
from livekit_costmeter.reporting.focus.rows import FocusOptions, focus_row
from livekit_costmeter.reporting.focus.writers import FocusSummary, write_focus

__all__ = ["FOCUS_VERSIONS", "FocusOptions", "FocusSummary", "focus_columns", "focus_row", "write_focus"]
