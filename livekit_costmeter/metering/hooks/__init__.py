"""
Where we touch LiveKit: its private names (all in `internals`), the patches on its classes, and our plugin entry in it.

Invariant: what happens at a tap is told to an `Observer`, and everything else of ours works without LiveKit.
"""
