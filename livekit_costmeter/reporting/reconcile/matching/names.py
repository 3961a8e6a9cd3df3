"""
When two names are one model: aliases, case, and dated snapshots.

Invariant: `gpt-4o-mini-2024-07-18` is `gpt-4o-mini` only where one side alone tells them apart. Where both sides have
the dated name, both mean it, and it stays a model of its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

_DATED = re.compile(r"(?:-\d{4}-\d{2}-\d{2}|[-@]20\d{6}|-general|-latest)\Z")


def plain(model: str) -> str:
    """Return a name as names are compared."""
    return "-".join(model.strip().lower().split())


def undated(name: str) -> str:
    """Return a plain name without the date of its snapshot."""
    return _DATED.sub("", name)


def shared_names(
    ours: Collection[str], theirs: Collection[str], aliases: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """
    Return what each side's models are called in the comparison.

    Args:
        ours: Names in the ledger.
        theirs: Names in the provider's files.
        aliases: The user's: the provider's name to that of the ledger.
    """
    aliased = {plain(name): plain(other) for name, other in aliases.items()}
    first = {name: plain(name) for name in ours}
    second = {name: aliased.get(plain(name), plain(name)) for name in theirs}
    mine, other = frozenset(first.values()), frozenset(second.values())
    return (
        {name: _shared(named, other, mine) for name, named in first.items()},
        {name: _shared(named, mine, other) for name, named in second.items()},
    )


def _shared(name: str, opposite: Collection[str], same: Collection[str]) -> str:
    """Return a name as the opposite side has it, where that is clear."""
    base = undated(name)
    if name in opposite or base == name:
        return name
    if base in opposite:
        return base
    # Neither has the bare name: two different snapshots are two models, several of one side stay apart.
    return name if any(undated(other) == base for other in opposite) or base in same else base
