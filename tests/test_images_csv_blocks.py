import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featx.errors import ListingError
from featx.images.sources import csv_blocks

CELL = st.text(alphabet='ab ä\udcff\0\t;"', max_size=3) | st.sampled_from(["", "x,y", "two\nlines", "old\rmac"])
ROWS = st.integers(1, 3).flatmap(lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), max_size=30))


def opened(text):
    return io.TextIOWrapper(io.BytesIO(text.encode("utf-8", "surrogateescape")), "utf-8", "surrogateescape", newline="")


def in_blocks(text):
    """Read the header, and each row after it with its line number."""
    header, blocks, _ = csv_blocks.read_csv(opened(text), "it")
    return header, [(number, list(row)) for numbers, columns in blocks
                    for number, row in zip(numbers, zip(*columns, strict=True), strict=True)]  # fmt: skip


def by_csv(text, separator=","):
    """Read the same with the csv module only."""
    reader, rows, line = csv.reader(opened(text), strict=True, delimiter=separator), [], 1
    for row in reader:
        if row:
            rows.append((line, row))
        line = reader.line_num + 1
    return rows[0][1] if rows else [], rows[1:]


def quoted(cell, separator, *, always):
    return '"' + cell.replace('"', '""') + '"' if always or set(cell) & {separator, '"', "\n", "\r"} else cell


@given(
    ROWS,
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["", "\n", "\n\n"]),
    st.integers(1, 40),
    st.booleans(),
)
def test_blocks_equal_what_the_csv_module_reads(rows, separator, ending, last, block, always):
    if len(rows) and len(rows[0]) == 1:
        separator = ","  # a header with one column does not show the separator
    rows = [["a", "b", "c"][: len(rows[0])], *rows] if rows else []
    text = "".join(separator.join(quoted(cell, separator, always=always) for cell in row) + ending for row in rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_blocks, "BLOCK_CHARACTERS", block)
        assert in_blocks(text + last) == by_csv(text + last, separator)


@pytest.mark.parametrize(
    ("header", "separator"),
    [("a", ","), ("a;b", ";"), ("a\tb,c\td", "\t"), ('"x;y;z",b', ","), ("sep=;\na", ";"), ("sep=\t\r\na,b", "\t"),
     ("\n\na;b", ";"), ("sep=,\na;b", ",")],
)  # fmt: skip
def test_the_separator_is_found_in_the_header(header, separator):
    assert csv_blocks.read_csv(opened(header + "\n"), "it").separator == separator


def test_lines_are_counted_after_a_line_that_names_the_separator():
    assert in_blocks("sep=;\n\na;b\n1;2\n") == (["a", "b"], [(4, ["1", "2"])])


def test_empty_cells_at_the_end_of_a_row_may_be_too_many_or_too_few():
    """Excel leaves them out of some rows, and writes empty columns that were once in use."""
    text = "a,b,,\nc,d,,\ne,f\ng,h,,,,\n,\n"
    assert in_blocks(text)[1] == [(n, row) for n, row in zip(range(2, 6), (["c", "d", "", ""], ["e", "f", "", ""],
                                  ["g", "h", "", ""], ["", "", "", ""]), strict=True)]  # fmt: skip
    for line in ("c\n", "c,d,,,x\n"):
        with pytest.raises(ListingError, match=r"line 2 of it must have 4 columns, as the header has, got [15]"):
            in_blocks("a,b,,\n" + line)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_the_encoding_of_a_table_is_recognized(encoding):
    with csv_blocks.open_text(io.BytesIO("path,label\nä.jpg,Käse\n".encode(encoding))) as text:
        header, blocks, _ = csv_blocks.read_csv(text, "it")
        assert (header, list(blocks)) == (["path", "label"], [(range(2, 3), [["ä.jpg"], ["Käse"]])])


@pytest.mark.parametrize("plain", ["", "c,d\n" * 50_000])
def test_a_line_with_too_many_columns_is_named(plain):
    line = 2 + plain.count("\n")
    with pytest.raises(ListingError, match=f"^line {line} of it must have 2 columns, as the header has, got 3$"):
        in_blocks(f"a,b\n{plain}c,d,e\nf\n")


def test_plain_lines_are_split_without_the_csv_module(monkeypatch):
    monkeypatch.setattr(csv_blocks, "_parse", lambda *_: pytest.fail("asked"))
    assert in_blocks("a,b\r\nc,d\r\ne,\r\n")[1] == [(2, ["c", "d"]), (3, ["e", ""])]


def test_a_very_long_line_is_refused_without_copying_it(monkeypatch):
    monkeypatch.setattr(csv_blocks, "_split", lambda *_: pytest.fail("copied"))
    with pytest.raises(csv.Error, match="field larger"):
        in_blocks("path\n" + "x" * 1_000_000)
