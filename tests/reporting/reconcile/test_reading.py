"""Reading files: encodings, numbers, times, rows and JSON documents."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livekit_costmeter.reporting.reconcile import ExportError
from livekit_costmeter.reporting.reconcile.reading import Export, bucket, cells, columns, grouped, read_head


def write(tmp_path, content, name="export.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(path):
    with Export(path).table() as table:
        return [(line, row) for line, row in table.rows(str, ())]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("59200.0", "59200.0"),
        (" 5 ", "5"),
        ("0,5697", "0.5697"),
        ("12,34", "12.34"),
        ("1.234.567,89", "1234567.89"),
        ("1,234,567.89", "1234567.89"),
        ("1,234.5", "1234.5"),
        ("1 234,5", "1234.5"),
        ("12'345", "12345"),
        ("5e-05", "0.00005"),
    ],
)
def test_a_number_with_one_reading_is_read(text, value):
    """Decimal commas and grouped thousands are read where only one reading is possible."""
    assert cells.number(text) == Decimal(value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1,234", "two readings"),
        ("NaN", "not a number"),
        ("Infinity", "not a number"),
        ("-5", "negative"),
        ("1e999", "out of range"),
        ("1e-999", "out of range"),
        ("9" * 3000, "out of range"),
        ("1_000", "not a number"),
        ("٣", "not a number"),
        ("=1+1", "not a number"),
        ("$5", "not a number"),
        ("1,23,4", "not a number"),
        ("", "not a number"),
    ],
)
def test_a_number_with_no_or_two_readings_is_refused(text, complaint):
    """What is not a finite plain number, or could be two, is refused and says why."""
    with pytest.raises(cells.CellError, match=complaint):
        cells.number(text)


@given(st.lists(st.from_regex(r"[0-9.+_ ]{0,6}|[0-9]{1,4}(\.0)?", fullmatch=True), min_size=1, max_size=6))
def test_a_whole_column_is_read_as_its_cells_are(column):
    """The quick way over a column gives what the slow one gives for each cell, or leaves it to it."""
    values = columns.plain_numbers(column)
    if values is not None:
        assert values == [cells.number(cell) if cell else 0 for cell in column]


def test_a_dot_is_ambiguous_where_dots_may_group():
    """In a file with semicolons `1.234` may be twelve hundred, so it is refused; `0.123` cannot be."""
    assert cells.number("0.123", dots_may_group=True) == Decimal("0.123")
    with pytest.raises(cells.CellError, match="two readings"):
        cells.number("1.234", dots_may_group=True)


@pytest.mark.parametrize(
    "text",
    [
        "1777593600",
        "1777593600.0",
        "1777593600000",
        "2026-05-01",
        "2026-05-01T02:00:00+02:00",
        "2026-05-01 00:00:00 UTC",
    ],
)
def test_times_of_any_kind_are_one_instant(text):
    """Unix seconds and milliseconds, dates, offsets and the word UTC mean the same instant."""
    assert cells.instant(text) == datetime(2026, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["01.05.2026", "5/1/2026", "", "1.78E+09", "1026-05-01", "2026-13-01", "99999999999999", "x"]
)
def test_a_local_date_is_refused(text):
    """A date in the order of some country is not guessed."""
    with pytest.raises(cells.CellError, match="expected Unix seconds or ISO 8601"):
        cells.instant(text)


def test_short_buckets_become_their_hour():
    """A minute is added to its hour; a day stays a day; an empty period is refused."""
    hour = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 1, 1, tzinfo=UTC)
    assert bucket("2026-05-01T00:05:00", "2026-05-01T00:06:00") == hour
    assert bucket("2026-05-01", "2026-05-02")[1].day == 2
    with pytest.raises(cells.CellError, match="is empty"):
        bucket("2026-05-01", "2026-05-01")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_same_cells_come_out_of_every_encoding(tmp_path, encoding, end, delimiter):
    """Byte order marks, wide encodings, line ends and delimiters make no difference to the cells."""
    text = end.join([delimiter.join(row) for row in (("model", "count"), ("café", "1"), ("b", "2"))])
    assert rows(write(tmp_path, text.encode(encoding))) == [
        (2, {"model": "café", "count": "1"}),
        (3, {"model": "b", "count": "2"}),
    ]


def test_quoted_line_ends_and_blank_rows_do_not_shift_the_lines(tmp_path):
    """A row's line is the one it starts on, whatever stands before it."""
    path = write(tmp_path, 'a,b\n1,2\n\n,\n"x\ny",3\n4,5,,\n')
    assert rows(path) == [(2, {"a": "1", "b": "2"}), (5, {"a": "x\ny", "b": "3"}), (7, {"a": "4", "b": "5"})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ":1: the file is empty"),
        (b"  \n ", ":1: the file is empty"),
        (b"PK\x03\x04rest", ":1: this is a ZIP archive or spreadsheet"),
        (b"a,b\n1,2\n\xe9,3\n", ":3: not UTF-8 text"),
        (b"a,b\n1,2\n3\n", ":3: 1 cells; expected 2"),
        (b"a,b\n1,2\n3,4,5\n", ":3: 3 cells; expected 2"),
        (b'a,b\n1,2\n"3,4\n', ":3: not CSV"),
        (b'a,b\n"1",2\n"x"y,4\n', ":3: not CSV"),
        (b'a,b\n"' + b"x" * 200_000 + b'",1\n', ":2: not CSV: field larger"),
        (b"a,b\n" + b"x" * (3 << 20), ":2: a line of more than 1 MiB"),
        (b"x" * (3 << 20), ":1: a line of more than 1 MiB"),
        (b'"a\n', ":1: not CSV"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, content, message):
    """Whatever is wrong with the text, one message says where and what."""
    path = write(tmp_path, content)
    with pytest.raises(ExportError) as caught:
        rows(path)
    assert str(caught.value).startswith(f"{path}{message}")
    assert "\n" not in str(caught.value)


def test_rows_are_added_up_exactly_and_a_bad_cell_names_its_line(tmp_path):
    """Sums are exact over many blocks and both paths; the bad cell's own line is in the message."""
    lines = ["start,end,model,count,money"]
    lines += [f"2026-05-01,2026-05-02,m{i % 3},{i}.0,0.{i:06d}" for i in range(10_000)]
    path = write(tmp_path, "\n".join(lines))

    def totals():
        with Export(path).table() as table:
            return {
                group.text("model"): (group.total("count"), group.total("money"))
                for group in grouped(table, ("start", "end"), ("model",), {"count": False, "money": True})
            }

    expected = {
        f"m{k}": (sum(range(k, 10_000, 3)), sum(Decimal(i) / 1_000_000 for i in range(k, 10_000, 3))) for k in range(3)
    }
    assert totals() == expected
    lines[7777] = lines[7777].replace(".0,", ".0x,")
    path.write_text("\n".join(lines))
    with pytest.raises(ExportError, match=r":7778: count: .* is not a number"):
        totals()


@pytest.mark.parametrize("text", ['{"a": 1}', '[{"a": 1}]', '\n\n [\n{"a": 1}\n]', '{"a": 1}\n', '{"a":\n1}'])
def test_one_document_may_stand_alone_or_in_a_list(tmp_path, text):
    """A page, a list of one page and a line with a page are the same."""
    (document,) = Export(write(tmp_path, text)).documents()
    assert document.number("a") == 1


def test_documents_stream_through_a_small_window(tmp_path):
    """Pages written one after the other, per line or in a long list, come out one by one with their lines."""
    text = "\n".join(json.dumps({"n": number, "pad": "x" * 500}) for number in range(2000))
    for content in (text, "[" + text.replace("\n", ",\n") + "]"):
        found = list(Export(write(tmp_path, content)).documents())
        assert [node.number("n") for node in found] == list(range(2000))
        assert found[-1].place.endswith(":2000")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1', ":1: the file ends in the middle"),
        ('{"a": 1}\n{"b": ', ":2: the file ends in the middle"),
        ('[{"a": 1},', ":1: the file ends in the middle of a list"),
        ('[{"a": 1},]', ":1: a comma before the end"),
        ('[{"a": 1}] x', ":1: something follows"),
        ('{"a": \n nope}', ":2: not JSON"),
        ("[1]", ":1: `1]` is not an object"),
        ('{"a": NaN}', ":1: NaN is not a number"),
        ('{"a": ' + "9" * 5000 + "}", ":1: `999"),
        ('{"a": ' + "[" * 200_000, ":1: nested too deeply"),
    ],
)
def test_broken_json_is_named_with_its_line(tmp_path, text, message):
    """Truncated, malformed, too deep or numberless: one message says where and what."""
    path = write(tmp_path, text)
    with pytest.raises(ExportError) as caught:
        list(Export(path).documents())
    assert str(caught.value).startswith(f"{path}{message}")


def test_json_may_be_one_long_line(tmp_path):
    """A compact page of some MiB is one line, which is bounded for CSV only."""
    (document,) = Export(write(tmp_path, json.dumps({"data": [{"n": 1}] * 300_000}))).documents()
    assert sum(1 for _ in document.children("data")) == 300_000


def test_a_document_beyond_the_bound_is_refused(tmp_path):
    """One page of more than 16 MiB is not read whole."""
    path = write(tmp_path, '{"a": "' + "x" * (17 << 20))
    with pytest.raises(ExportError, match="more than 16 MiB"):
        list(Export(path).documents())


def test_a_value_of_the_wrong_kind_is_named_with_its_path(tmp_path):
    """An error inside a document has the file, the line and the path."""
    (document,) = Export(write(tmp_path, '{"data": [{"a": {"b": "x"}, "c": [1]}]}')).documents()
    (item,) = document.children("data")
    with pytest.raises(ExportError, match=r":1#data\[0\]\.a\.b: `x` is not a number"):
        item.child("a").number("b")
    with pytest.raises(ExportError, match=r"#data\[0\]\.c\[0\]: .* is not an object"):
        list(item.children("c"))
    with pytest.raises(ExportError, match=r"#data\[0\]\.a: .* is not a time"):
        item.instant("a")


def test_a_head_shows_columns_or_keys(tmp_path):
    """A CSV shows its header, JSON the keys of its first object, whatever comes before them."""
    assert read_head(write(tmp_path, "\n\n a , b\n")).columns == ("a", "b")
    assert read_head(write(tmp_path, ' [ {"a": 1, "b": 2} ]')).keys == {"a", "b"}


def test_a_file_that_is_not_there_is_an_export_error(tmp_path):
    """A missing file is said like any other mistake, without a traceback."""
    with pytest.raises(ExportError, match="No such file"):
        read_head(tmp_path / "none.csv")
