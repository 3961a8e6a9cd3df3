"""
One module per provider; each lists its formats as `PARSERS`.

Invariant: a parser knows its provider's names, units and habits, and nothing of the ledger. A value it does not know
is passed on as `detail` or left out, never turned into a unit it may not be.
"""
