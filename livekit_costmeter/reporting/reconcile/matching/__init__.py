"""
The ledger's numbers beside the provider's: by model, unit and time.

Invariant: exact and complete. Every quantity of both sides is in one row, and no row is made to agree.
"""

from livekit_costmeter.reporting.reconcile.matching.pairs import ALL_MODELS, Match, Sides, UnitMatch, pair
from livekit_costmeter.reporting.reconcile.matching.recorded import LedgerSide, is_account_key
from livekit_costmeter.reporting.reconcile.matching.rows import Row, RowMaker
from livekit_costmeter.reporting.reconcile.matching.stated import ProviderSide
from livekit_costmeter.reporting.reconcile.matching.thresholds import DEFAULTS, Thresholds

__all__ = [
    "ALL_MODELS",
    "DEFAULTS",
    "LedgerSide",
    "Match",
    "ProviderSide",
    "Row",
    "RowMaker",
    "Sides",
    "Thresholds",
    "UnitMatch",
    "is_account_key",
    "pair",
]
