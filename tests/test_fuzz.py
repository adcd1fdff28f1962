"""Readers refuse mutated files without any other effect: 100 per reader here, as many as you like by ``make fuzz``."""

import ctypes
import os
import time

import pytest
from fuzz.readers import READERS, make_input, seeds_of
from fuzz.run import attack

from featx.errors import StoreError

pytestmark = pytest.mark.slow

INPUTS = 100


@pytest.mark.parametrize("reader", READERS)
def test_valid_files_are_accepted(reader, tmp_path):
    for kind, valid in zip(READERS[reader].kinds, seeds_of(reader), strict=True):
        for number, data in enumerate(valid):
            path = tmp_path / f"{number}{kind.suffix}"
            path.write_bytes(data)
            if reader not in ("store", "manifest", "part"):  # some are refused, or name missing files
                READERS[reader].read(path)
        assert valid


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_accepts_or_refuses_mutated_files(reader):
    result = attack(reader, 0, INPUTS, timeout=60)
    assert not result.findings, str(result)
    assert result.inputs == INPUTS
    assert result.refused > INPUTS // 4


def test_the_same_number_gives_the_same_input():
    assert make_input("images", 7) == make_input("images", 7) != make_input("images", 8)


def misbehave(path):
    """Misbehave on some of ten inputs."""
    number = int((path.parent / "count").read_text()) if (path.parent / "count").exists() else 0
    (path.parent / "count").write_text(str(number + 1))
    if number == 2:
        ctypes.string_at(0)
    if number == 4:
        time.sleep(1000)
    if number == 6:
        raise KeyError("foreign")
    if number == 8:
        os.write(2, b"warning\n" * 100)
    raise StoreError("refused")


def test_the_fuzzer_finds_crashes_hangs_other_errors_and_output():
    result = attack("manifest", 0, 10, timeout=5, read=misbehave)
    assert result.inputs == 10
    assert [(number, text.split(":")[0]) for number, text in sorted(result.findings.items())] == [
        (2, "crash"), (4, "hang"), (6, "KeyError"), (8, "printed 800 bytes"),
    ]  # fmt: skip
