"""Price tables: the same values as text, on a terminal, as CSV, JSON and HTML."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from livekit_costmeter.reporting.price_tables import (
    price_table_csv,
    price_table_html,
    price_table_json,
    price_table_text,
    print_price_table,
)


def price(of, value, priority=None, source="plan:acme@1#row"):
    shown, fast = (f"${amount}" if amount else "" for amount in (value, priority))
    return {
        "of": of,
        "value": value,
        "shown": shown,
        "priority_value": priority,
        "priority_shown": fast,
        "pricing_source": source,
    }


def row(vendor, item, unit, *prices, terms=""):
    return {"vendor": vendor, "item": item, "model": item, "unit": unit, "terms": terms, "prices": list(prices)}


LLM = {
    "key": "llm",
    "title": "Large Language Models (LLMs)",
    "columns": {"input": "USD per 1K input tokens", "output": "USD per 1K output tokens"},
    "rows": [
        row("OpenAI", "gpt-4o", "1K Tokens", price("input", "0.0025", "0.004"), price("output", "0.01")),
        row("OpenAI", "gpt-9", "1K Tokens", price("input", "1"), price("output", None, source="")),
    ],
}
TTS = {
    "key": "tts",
    "title": "Text-to-Speech (TTS)",
    "columns": {"unit": "USD per unit"},
    "rows": [row("<b>Acme</b>", "loud & clear", "1K Characters", price("unit", "0.045"), terms="at cost")],
}
DOCUMENT = {
    "title": "acme <2026>",
    "at": "2026-11-20T12:30:00.000000Z",
    "prices_in": "money",
    "currency": "USD",
    "credits": {"name": "credits", "price": "0.005"},
    "notes": ["credits at $0.005 each"],
    "sections": [LLM, TTS],
}


@pytest.fixture
def document():
    return copy.deepcopy(DOCUMENT)


def on_terminal(document, width):
    screen = io.StringIO()
    print_price_table(document, Console(file=screen, force_terminal=True, width=width, color_system=None))
    return screen.getvalue()


def test_text_has_one_line_per_row_and_a_column_for_priority(document):
    """Aligned, without escape sequences, what is not known empty, and no column that nothing stands in."""
    assert price_table_text(document).splitlines() == [
        "acme <2026> at 2026-11-20 12:30, UTC",
        "",
        "Large Language Models (LLMs)",
        "Vendor  Item    USD per 1K input tokens  with priority  USD per 1K output tokens  Source",
        "OpenAI  gpt-4o                  $0.0025         $0.004                     $0.01  plan:acme@1#row",
        "OpenAI  gpt-9                        $1                                           plan:acme@1#row",
        "",
        "Text-to-Speech (TTS)",
        "Vendor       Item          Unit           USD per unit  Terms    Source",
        "<b>Acme</b>  loud & clear  1K Characters        $0.045  at cost  plan:acme@1#row",
        "",
        "credits at $0.005 each",
    ]


@pytest.mark.parametrize("width", [70, 80, 200])
def test_a_terminal_shows_every_price_whole(document, width):
    """On a narrow screen names fold; no price is cut, and priority stands below the usual price."""
    screen = on_terminal(document, width)
    for shown in ("$0.0025", "$0.004 with priority", "$0.01", "$0.045"):
        assert re.search(rf"(^|\s){re.escape(shown)}(\s|$)", screen)
    assert max(len(line) for line in screen.splitlines()) <= width


def test_a_narrow_terminal_says_what_it_does_not_show(document):
    """Sources give way to prices, and not in silence."""
    narrow, wide = on_terminal(document, 60), on_terminal(document, 160)
    assert ("plan:acme@1#row" in narrow, "no room for: Source" in narrow) == (False, True)
    assert ("plan:acme@1#row" in wide, "no room for: Source" in wide) == (True, False)


def test_csv_has_one_line_per_price_with_its_exact_value(document):
    """The same columns for every table."""
    rows = list(csv.DictReader(io.StringIO(price_table_csv(document))))
    assert [(line["section"], line["model"], line["of"], line["value"], line["priority_value"]) for line in rows] == [
        ("llm", "gpt-4o", "input", "0.0025", "0.004"),
        ("llm", "gpt-4o", "output", "0.01", ""),
        ("llm", "gpt-9", "input", "1", ""),
        ("llm", "gpt-9", "output", "", ""),
        ("tts", "loud & clear", "unit", "0.045", ""),
    ]
    assert {line["prices_in"] for line in rows} == {"USD"}
    assert rows[0]["shown"] == "$0.0025"
    empty = price_table_csv({**document, "sections": []})
    assert empty.splitlines() == price_table_csv(document).splitlines()[:1]


def test_csv_names_the_credits(document):
    """Prices in credits say in which."""
    rows = csv.DictReader(io.StringIO(price_table_csv({**document, "prices_in": "credits"})))
    assert {line["prices_in"] for line in rows} == {"credits"}


def test_json_is_the_document(document):
    """Nothing is added or left out."""
    assert json.loads(price_table_json(document)) == DOCUMENT


class _Page(HTMLParser):
    """Collects the tags of a page, its text by tag, and checks that tags are closed in order."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.texts = [], [], {}
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


def test_html_is_one_well_formed_page_that_loads_and_runs_nothing(document):
    """Every tag is closed; no script, link, image or address."""
    page = _Page(price_table_html(document))
    assert page.open == []
    names = {tag for tag, _ in page.tags}
    assert names.isdisjoint({"script", "link", "img", "iframe", "b"})
    assert not any(name in ("src", "href") or name.startswith("on") for _, given in page.tags for name in given)
    assert "url(" not in price_table_html(document)
    assert "@import" not in price_table_html(document)


def test_html_holds_every_value_and_both_themes(document):
    """Names are text whatever stands in them; prices, priority, terms, sources and notes are all there."""
    text = price_table_html(document)
    page = _Page(text)
    assert page.texts["h1"] == ["acme <2026>"]
    assert page.texts["h2"] == ["Large Language Models (LLMs)", "Text-to-Speech (TTS)"]
    assert {"<b>Acme</b>", "OpenAI", "$0.0025", "$0.01", "$1", "$0.045", "at cost"} <= set(page.texts["td"])
    assert "$0.004 with priority" in page.texts["span"]
    assert "plan:acme@1#row" in page.texts["span"]
    assert page.texts["p"] == ["Prices at 2026-11-20 12:30, UTC", "credits at $0.005 each"]
    assert "prefers-color-scheme: dark" in text


def test_names_from_outside_do_not_steer_a_terminal(document):
    """Control characters are escaped in every form that people read."""
    document["sections"][0]["rows"][0]["item"] = "bad\x1b[31m\nname"
    for shown in (price_table_text(document), on_terminal(document, 120), price_table_html(document)):
        assert "\x1b[31m" not in shown
        assert "bad\\x1b[31m\\nname" in shown
