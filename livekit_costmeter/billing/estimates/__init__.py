"""
What calls will cost: described by a few numbers, or learned from a ledger.

Invariant: an estimate is a bill. Its usage records go through the same rating and the same plan as live ones, so that
both agree to the last digit; what has no price stays unpriced and is never the cheapest.
"""
