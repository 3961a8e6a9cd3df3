"""
What the platform charges on: plans, their currencies and credits, statements, estimates and price tables.

Invariant: pure after load. A plan adds lines to what rating gives and decides what of it is billed; it never changes
what the provider charges, and what it cannot know is `None`, never 0.
"""
