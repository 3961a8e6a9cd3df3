"""
Plans: what a platform charges an account, read from a file and made ready for billing.

Invariant: a plan is immutable; what is decided once for each model and period is decided once.
"""

from __future__ import annotations

from livekit_costmeter.billing.plans.plan import Plan, exchange_rows
from livekit_costmeter.billing.plans.rules import ANY, Credits, PassThrough, Rounding, Rule, Tax

__all__ = ["ANY", "Credits", "PassThrough", "Plan", "Rounding", "Rule", "Tax", "exchange_rows"]
