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
    header, blocks = csv_blocks.read_csv(opened(text), "it")
    return header, [(number, list(row)) for numbers, columns in blocks
                    for number, row in zip(numbers, zip(*columns, strict=True), strict=True)]  # fmt: skip


def by_csv(text):
    """Read the same with the csv module only."""
    reader, rows, line = csv.reader(opened(text), strict=True), [], 1
    for row in reader:
        if row:
            rows.append((line, row))
        line = reader.line_num + 1
    return rows[0][1] if rows else [], rows[1:]


def quoted(cell, *, always):
    return '"' + cell.replace('"', '""') + '"' if always or set(cell) & set(',"\n\r') else cell


@given(
    ROWS,
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["", "\n", "\n\n"]),
    st.integers(1, 40),
    st.booleans(),
)
def test_blocks_equal_what_the_csv_module_reads(rows, ending, last, block, always):
    text = "".join(",".join(quoted(cell, always=always) for cell in row) + ending for row in rows) + last
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_blocks, "BLOCK_CHARACTERS", block)
        assert in_blocks(text) == by_csv(text)


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
