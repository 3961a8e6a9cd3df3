"""
The canonical usage files of VoiceGateway, for those who come from there: CSV, or a JSON list of the same objects.

OpenAI and other models of text: `model,input_tokens,output_tokens,n_requests,cost_usd`. Speech recognition:
`model,audio_seconds,n_requests,cost_usd`. Speech: `model,characters,credits,n_requests,cost_usd`. `n_requests`,
`credits` and `cost_usd` may be absent.

Invariant: these files have neither dates nor a provider, so both must be said; cached and audio tokens were dropped by
whoever made the file, and stay unknown. The cost is a line of its own, since it is for all units together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from livekit_costmeter.reporting.reconcile.lines import CREDITS, ExportError, ProviderLine
from livekit_costmeter.reporting.reconcile.reading import Export, Head, Node

_UNITS = {
    "input_tokens": ("llm", "input_tokens"),
    "output_tokens": ("llm", "output_tokens"),
    "audio_seconds": ("stt", "audio_seconds"),
    "characters": ("tts", "characters"),
}
_NAMES = {"model", *_UNITS, "credits", "n_requests", "cost_usd"}
_KINDS = ({"input_tokens", "output_tokens"}, {"audio_seconds"}, {"characters"})


def _is_canonical(names: set[str]) -> bool:
    return "model" in names <= _NAMES and any(kind == names & set(_UNITS) for kind in _KINDS)


class _Canonical:
    """All three kinds; the columns tell which."""

    name = "voicegateway"
    provider = None

    def recognises(self, head: Head) -> bool:
        return _is_canonical(set(head.keys or head.columns))

    def read(self, export: Export) -> Iterator[ProviderLine]:
        provider = export.provider
        if provider is None:
            raise ExportError(f"{export.path}:1: the file does not say whose it is; give --provider")
        for node in _rows(export):
            yield from _lines(node, provider, export)


def _rows(export: Export) -> Iterator[Node]:
    with export.table_or_none() as table:
        if table is None:
            yield from export.documents()
            return
        if not _is_canonical(set(table.columns)):
            table.require(("model", "input_tokens", "output_tokens"))
        for line, row in table.rows(str, ("model",)):
            yield Node(row, f"{export.path}:{line}")


def _lines(node: Node, provider: str, export: Export) -> Iterator[ProviderLine]:
    model = node.text("model")
    kinds = [kind for name, kind in _UNITS.items() if name in node.data]
    if model is None or not kinds:
        raise node.error("model", "expected a model and its units")
    component = kinds[0][0]
    said: Mapping[str, Decimal | None] = {
        **{unit: node.number(name) for name, (_, unit) in _UNITS.items()},
        "requests": node.number("n_requests"),
    }
    start, end = export.dates()
    for unit, quantity in said.items():
        if quantity:
            yield ProviderLine(provider, model, component, unit, quantity, None, None, start, end, place=node.place)
    for name, currency in (("cost_usd", "USD"), ("credits", CREDITS)):
        cost = node.number(name, signed=True)
        if cost is not None:
            yield ProviderLine(provider, model, component, None, None, cost, currency, start, end, place=node.place)


PARSERS = [_Canonical()]
