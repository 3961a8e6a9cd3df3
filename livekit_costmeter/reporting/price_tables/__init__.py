"""
Price tables as text, on a terminal, as CSV, JSON and HTML.

Invariant: every form is made from the same plain values and leaves none of them out.
"""

from livekit_costmeter.reporting.price_tables.forms import (
    price_table_csv,
    price_table_json,
    price_table_text,
    print_price_table,
)
from livekit_costmeter.reporting.price_tables.html import price_table_html

__all__ = ["price_table_csv", "price_table_html", "price_table_json", "price_table_text", "print_price_table"]
