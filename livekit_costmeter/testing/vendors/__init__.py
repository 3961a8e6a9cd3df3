"""
The simulated vendors, one module per protocol.

Invariant: a vendor answers on the wire as the real one does and counts in the ledger what the real one would see; it
never looks at what a client reports.
"""
