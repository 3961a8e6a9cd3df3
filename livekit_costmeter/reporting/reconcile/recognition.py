"""
Which parser reads a file.

Invariant: nothing is guessed. A file that no parser recognises, or more than one, is refused with the parsers there
are; `--as` names one, and then that one alone answers for the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from livekit_costmeter.reporting.reconcile.lines import ExportError, ProviderLine
from livekit_costmeter.reporting.reconcile.reading import Export, Head, Period, read_head

_FOLDER = "livekit_costmeter.reporting.reconcile.parsers"
_MODULES = (
    "openai_usage",
    "openai_cost",
    "openai_pages",
    "deepgram",
    "anthropic",
    "elevenlabs",
    "cartesia",
    "twilio",
    "google",
    "voicegateway",
)


class Parser(Protocol):
    """A format of one provider."""

    @property
    def name(self) -> str:
        """What `--as` calls it, such as `openai-usage-csv`."""

    @property
    def provider(self) -> str | None:
        """The canonical provider; `None` where several share the format."""

    def recognises(self, head: Head) -> bool:
        """Tell whether a file is of this format, and of no other."""

    def read(self, export: Export) -> Iterator[ProviderLine]:
        """
        Yield what the file says, row by row or page by page.

        Raises:
            ExportError: Something in it is not what the format says; the message names file and line.
        """


def known_parsers() -> list[Parser]:
    """Return every format there is, in the order in which they are listed to people."""
    return [
        parser for module in _MODULES for parser in cast("list[Parser]", import_module(f"{_FOLDER}.{module}").PARSERS)
    ]


def open_export(
    path: Path | str,
    *,
    name: str | None = None,
    provider: str | None = None,
    window: Period | None = None,
    mappings: Sequence[Parser] = (),
) -> tuple[Parser, Iterator[ProviderLine]]:
    """
    Find the parser of a file and start to read it; the lines come as they are asked for.

    Args:
        path: The file.
        name: The parser to take (`--as`), whatever the file looks like.
        provider: Whose file it is, for formats that several providers share.
        window: The period asked for, for formats without dates.
        mappings: The user's own formats; they are asked first.

    Raises:
        ExportError: No parser or more than one recognises the file, or there is none of that name. The iterator
            raises it too.
    """
    path = Path(path)
    parser = _named(name, mappings) if name else _recognised(path, mappings)
    return parser, parser.read(Export(path, provider, window))


def _named(name: str, mappings: Sequence[Parser]) -> Parser:
    there = [*mappings, *known_parsers()]
    for parser in there:
        if parser.name == name:
            return parser
    raise ExportError(f"no format is called {name!r} (there are: {_list(there)})")


def _recognised(path: Path, mappings: Sequence[Parser]) -> Parser:
    head = read_head(path)
    found = [parser for parser in mappings if parser.recognises(head)]
    found = found or [parser for parser in known_parsers() if parser.recognises(head)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ExportError(f"{path}:1: the file may be one of several formats: {_list(found)}; say which with --as")
    known = _list([*mappings, *known_parsers()])
    raise ExportError(f"{path}:1: not a format that is known (known: {known}); any other CSV can be read by a mapping")


def _list(parsers: Sequence[Parser]) -> str:
    return ", ".join(parser.name for parser in parsers)
