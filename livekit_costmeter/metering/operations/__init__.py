"""
Operations: one request of a provider's work each, followed from its first attempt to its end.

Invariant: what LiveKit reports of an operation is taken from LiveKit, once; what it never reports is recorded when the
attempt or the operation ends, with how it is known (`observed` on the wire, `estimated` otherwise). Nothing is kept of
an operation that has ended.
"""
