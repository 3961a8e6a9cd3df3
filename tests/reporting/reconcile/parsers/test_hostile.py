"""Every parser against broken, hostile and mutated files."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from livekit_costmeter.reporting.reconcile import ExportError, ProviderLine, known_parsers, open_export
from livekit_costmeter.reporting.reconcile.parsers.mapping import MappedCsv, MappingModel

EXPORTS = sorted((Path(__file__).parent.parent / "exports").iterdir())
CSVS = [path for path in EXPORTS if path.suffix == ".csv"]
WINDOW = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
TELCO = MappedCsv(
    MappingModel.model_validate(
        {
            "name": "telco",
            "provider": "telnyx",
            "columns": {"start": "Datum", "detail": "Produkt", "cost": "Betrag"},
            "quantities": {"call_seconds": "Minuten"},
            "currency": "EUR",
            "date_format": "%d.%m.%Y",
            "decimal": ",",
            "thousands": ".",
        }
    )
)
HOSTILE = [
    b"NaN",
    b"Infinity",
    b"-1",
    b"1e999",
    b"-0",
    b"9" * 400,
    b"=1+1",
    b'=cmd|"/c x"!A0',
    b"\x00",
    b"\xff\xfe",
    b'"',
    b"'",
    b",",
    b";",
    b"\r",
    b"\n",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"true",
    b"1,234",
    b"0x10",
    b"\xc3",
    b"01.02.2026",
    b"\\u0000",
    b"9999999999999",
    b"0001-01-01",
    b'{"a":',
    b"[" * 3000,
    b"1_0",
    b"\xe2\x80\xa8",
    b"\x1c",
    b"1.2.0",
    b"2026-02-30",
    b"e5",
]


NAMES = [*(parser.name for parser in known_parsers()), "telco"]


def outcome(path, **options):
    """Return lines or the one message; anything else raises out of the test."""
    try:
        return list(open_export(path, provider="openai", window=WINDOW, mappings=[TELCO], **options)[1])
    except ExportError as error:
        return str(error)


def assert_lines_or_message(path, found):
    if isinstance(found, str):
        assert re.match(re.escape(str(path)) + r":\d+", found), found
        assert "\n" not in found
        assert len(found) < 2500
    else:
        assert all(isinstance(line, ProviderLine) and line.start < line.end for line in found)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf\r\n", "the file is empty"),
        (b"PK\x03\x04", "ZIP archive"),
        (b"a,b\nM\xfcnchen,1\n", ""),
        (b'{"data": "M\xfcnchen"}', ""),
        (b'{"data": [' + b"[" * 100_000, ""),
        (b'"' + b"x" * 300_000, ""),
        (b"[{}, 3]", ""),
        (b"\x00\x01\x02\x03", ""),
    ],
)
def test_every_parser_refuses_what_is_no_export_with_one_message(tmp_path, name, content, complaint):
    """Empty, packed, mis-encoded, deep, endless or binary: file, line and what was expected, from any parser."""
    path = tmp_path / "export"
    path.write_bytes(content)
    found = outcome(path, name=name)
    assert isinstance(found, str), found
    assert_lines_or_message(path, found)
    assert complaint in found


@pytest.mark.parametrize("export", EXPORTS, ids=lambda path: path.name)
def test_a_file_cut_anywhere_is_lines_or_one_message(tmp_path, export):
    """Whatever is missing at the end, nothing but `ExportError` comes out, with file and line."""
    content = export.read_bytes()
    path = tmp_path / export.name
    for end in range(0, len(content), max(1, len(content) // 60)):
        path.write_bytes(content[:end])
        assert_lines_or_message(path, outcome(path))


@pytest.mark.parametrize("export", [path for path in EXPORTS if path not in CSVS], ids=lambda path: path.name)
def test_json_that_ends_in_the_middle_is_refused(tmp_path, export):
    """Half a page is never taken for a whole one."""
    path = tmp_path / export.name
    path.write_bytes(export.read_bytes().rstrip()[:-1])
    assert "the file ends in the middle" in outcome(path)


@pytest.mark.parametrize("export", CSVS, ids=lambda path: path.name)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings_of_windows_give_the_same_lines(tmp_path, export, encoding):
    """A file saved again by a spreadsheet on Windows reads the same."""
    text = export.read_text("utf-16" if export.name == "telco.csv" else "utf-8")
    path = tmp_path / export.name
    path.write_text(text, encoding="utf-8")
    plain = outcome(path)
    path.write_text(text.replace("\n", "\r\n"), encoding=encoding, newline="")
    assert outcome(path) == plain


@pytest.mark.parametrize("export", CSVS, ids=lambda path: path.name)
def test_semicolons_give_the_same_lines_or_a_message(tmp_path, export):
    """A file with the separators of another country is read alike, or refused where a number has two readings."""
    path = tmp_path / export.name
    path.write_bytes(export.read_bytes())
    plain = outcome(path)
    path.write_bytes(
        b"\n".join(line if b'"' in line else line.replace(b",", b";") for line in export.read_bytes().split(b"\n"))
    )
    if b'"' not in export.read_bytes():
        found = outcome(path)
        assert found == plain or "two readings" in found


@pytest.mark.parametrize("export", EXPORTS, ids=lambda path: path.name)
def test_every_number_replaced_by_a_hostile_one_is_named(tmp_path, export):
    """NaN, infinities, formulas and monsters in any place are lines (where nobody reads it) or one message."""
    content = export.read_bytes()
    path = tmp_path / export.name
    for match in list(re.finditer(rb"\d+(?:\.\d+)?", content))[:40]:
        for value in (b"NaN", b"-Infinity", b"1e999", b"=1+1", b"9" * 5000, b"\x00"):
            path.write_bytes(content[: match.start()] + value + content[match.end() :])
            assert_lines_or_message(path, outcome(path))


def mutate(content, chance):
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(content) + 1), chance.choice((0, 0, 1, 5, 40))
        piece = chance.choice(HOSTILE) if chance.random() < 0.7 else content[at : at + 30] * 2
        content = content[:at] + piece + content[at + length :]
    return content


def fuzz(tmp_path, seed, rounds):
    chance = random.Random(seed)
    kinds = {"lines": 0, "messages": 0}
    for number in range(rounds):
        export = EXPORTS[number % len(EXPORTS)]
        path = tmp_path / export.name
        path.write_bytes(mutate(export.read_bytes(), chance))
        named = chance.random() < 0.5
        found = outcome(path, name=open_export(export, mappings=[TELCO])[0].name if named else None)
        assert_lines_or_message(path, found)
        kinds["messages" if isinstance(found, str) else "lines"] += 1
    return kinds


def test_mutated_exports_are_lines_or_one_message(tmp_path):
    """A short fuzz run over every parser: never another exception."""
    kinds = fuzz(tmp_path, seed=6, rounds=len(EXPORTS) * 20)
    assert min(kinds.values()) > 0


@pytest.mark.slow
def test_many_mutated_exports_are_lines_or_one_message(tmp_path):
    """A long fuzz run over every parser: never another exception."""
    kinds = fuzz(tmp_path, seed=66, rounds=len(EXPORTS) * 700)
    assert min(kinds.values()) > 0
