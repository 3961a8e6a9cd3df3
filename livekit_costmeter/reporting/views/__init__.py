"""
Reports of other shapes than groups and sums: per call, two periods side by side, what was paid for and not used.

Invariant: each is made of the same settled charges and sums as `build_report`, so their totals agree with it.
"""

from livekit_costmeter.reporting.views.calls import Call, CallsReport, build_calls
from livekit_costmeter.reporting.views.calls_forms import calls_csv, calls_json, calls_text, print_calls
from livekit_costmeter.reporting.views.comparison import Comparison, ComparisonRow, compare, period_before
from livekit_costmeter.reporting.views.comparison_forms import (
    comparison_csv,
    comparison_json,
    comparison_text,
    print_comparison,
)
from livekit_costmeter.reporting.views.percentiles import Spread
from livekit_costmeter.reporting.views.ranking import top
from livekit_costmeter.reporting.views.waste import Waste, WasteRow, find_waste
from livekit_costmeter.reporting.views.waste_forms import print_waste, waste_csv, waste_json, waste_text

__all__ = [
    "Call",
    "CallsReport",
    "Comparison",
    "ComparisonRow",
    "Spread",
    "Waste",
    "WasteRow",
    "build_calls",
    "calls_csv",
    "calls_json",
    "calls_text",
    "compare",
    "comparison_csv",
    "comparison_json",
    "comparison_text",
    "find_waste",
    "period_before",
    "print_calls",
    "print_comparison",
    "print_waste",
    "top",
    "waste_csv",
    "waste_json",
    "waste_text",
]
