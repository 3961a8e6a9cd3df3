"""
Progress of a fetch, where somebody watches.

Invariant: a stream that is no terminal gets nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def progress_on(stream: TextIO) -> Iterator[Callable[[str], None]]:
    """Show the last thing told in a line of its own on a terminal, gone at the end."""
    if not stream.isatty():
        yield lambda _text: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(file=stream).status("asking the provider") as status:
        yield lambda text: status.update(escape(text))
