"""Progress bars and counts that users see."""

import sys
from types import ModuleType

import pytest

from featx.extraction import ExtractReport
from featx.runtime import pluralize, progress_bar


@pytest.mark.parametrize(
    ("notebook", "shown", "hidden"), [(True, True, False), (False, True, True), (True, False, True)]
)
def test_progress_bars_show_in_notebooks_but_not_in_redirected_output(monkeypatch, notebook, shown, hidden):
    if notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    else:
        monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    with progress_bar(3, "image", "extract", shown=shown) as bar:
        assert bool(bar.disable) == hidden


def test_counts_have_the_plural_of_their_noun():
    assert pluralize(1, "image") == "1 image"
    assert pluralize(2000, "image") == "2,000 images"
    assert pluralize(0, "class", "classes") == "0 classes"


def test_the_report_of_an_extraction_has_a_short_repr():
    report = ExtractReport(
        store="a<b.h5", rows=24, extracted=20, dropped=0, exif_rotated=0, failures=[("bad.png", "empty file")],
        conflicts=[], seconds=2.5, precision="fp32", bottleneck="writing", advice="the bottleneck is writing the store",
    )  # fmt: skip
    assert repr(report).splitlines() == [
        "ExtractReport of a<b.h5",
        "  24 rows, 20 extracted in 2.5 s (fp32)",
        "  1 image could not be read, see .failures",
        "  the bottleneck is writing the store",
    ]
    page = report._repr_html_()
    assert "a&lt;b.h5" in page
    assert "the bottleneck is writing the store" in page
