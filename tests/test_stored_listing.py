"""How a source was read is reported by extract and assemble, stored with the features, and shown by info."""

import json
from pathlib import Path

import h5py
import pytest
from click.testing import CliRunner
from conftest import draw

from featx.cli.group import main
from featx.curation import select
from featx.errors import StoreCorrupt
from featx.extraction import assemble_shards, extract
from featx.images import ListingOptions, list_images
from featx.inspection import describe
from featx.runtime import Compute
from featx.spec import ExtractSpec
from featx.store import Store
from featx.store.schema import LISTING_BYTES

SPEC = ExtractSpec(size=32, blocks=(1,))
OLD_STORES = sorted((Path(__file__).parent / "data/old").glob("store-*.h5"))


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    """A folder that can be read in two ways."""
    for number, name in enumerate(f"site{site}/{label}/1.png" for site in "AB" for label in ("cat", "dog")):
        path = tmp_path / "sites" / name
        path.parent.mkdir(parents=True)
        draw(number % 2, number).save(path)
    return tmp_path / "sites"


OPTIONS = ListingOptions(split_folders={"siteA": "train", "siteB": "test"})


def test_extract_reports_and_stores_how_the_source_was_read(sites, tmp_path, oxford):
    (sites / "siteA/cat/2.heic").write_bytes(b"x")
    report = extract(sites, tmp_path / "s.h5", SPEC, listing=OPTIONS)
    assert report.listing == list_images(sites, options=OPTIONS).summary
    assert report.listing.splits == {"test": 2, "train": 2}
    with Store(tmp_path / "s.h5") as store:
        assert store.listing == {
            "layout": "split folders with class folders",
            "columns": {},
            "notes": [
                {"kind": "skipped", "text": "1 file skipped: .heic (1)", "count": 1},
                {"kind": "hint", "text": "to read .heic, install pillow-heif: pip install pillow-heif", "count": 0},
            ],
        }
    assert "1 file skipped: .heic (1)" in repr(report)
    assert "1 file skipped: .heic (1)" in report._repr_html_()


def test_a_changed_listing_is_stored_without_extracting(sites, tmp_path, oxford):
    extract(sites, tmp_path / "s.h5", SPEC, listing=OPTIONS)
    before = (tmp_path / "s.h5").read_bytes()
    extract(sites, tmp_path / "s.h5", SPEC, listing=OPTIONS)
    assert (tmp_path / "s.h5").read_bytes() == before
    (sites / "siteA/cat/2.heic").write_bytes(b"x")
    report = extract(sites, tmp_path / "s.h5", SPEC, listing=OPTIONS)
    assert report.extracted == 0
    with Store(tmp_path / "s.h5") as store:
        assert store.listing["notes"][0]["text"] == "1 file skipped: .heic (1)"


def test_the_command_line_says_it_in_the_summary_in_json_and_in_info(sites, tmp_path, oxford):
    (sites / "siteA/cat/notes.txt").write_bytes(b"x")
    arguments = ["extract", str(sites), "-o", str(tmp_path / "s.h5"), "--size", "32", "--blocks", "1",
                 "--split-folders", "siteA=train,siteB=test"]  # fmt: skip
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "4 images listed: split folders with class folders\n2 classes: cat (2), dog (2)\n" in result.output
    assert "1 file skipped: .txt (1)\n" in result.output
    found = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert found["listing"]["splits"] == {"test": 2, "train": 2}
    assert found["listing"]["notes"] == [{"kind": "skipped", "text": "1 file skipped: .txt (1)", "count": 1}]
    shown = CliRunner().invoke(main, ["info", str(tmp_path / "s.h5")]).stdout
    assert "listing:\n  layout: split folders with class folders\n" in shown
    assert "\n    1 file skipped: .txt (1)\n" in shown
    assert describe(tmp_path / "s.h5")["listing"]["notes"][0]["count"] == 1


def test_shards_are_assembled_with_the_options_of_the_listing(sites, tmp_path, oxford):
    for number in (1, 2):
        compute = Compute(shard=f"{number}/2")
        report = extract(sites, tmp_path / "s.h5", SPEC, compute, listing=OPTIONS)
        assert report.listing.splits == {"test": 2, "train": 2}
    report = assemble_shards(tmp_path / "s.h5")
    assert report.listing.splits == {"test": 2, "train": 2}
    with Store(tmp_path / "s.h5") as store:
        assert store.classes == ["cat", "dog"]
        assert sorted(store.columns["split"]) == ["test", "test", "train", "train"]


def test_a_selection_keeps_how_the_source_was_read(sites, tmp_path, oxford):
    (sites / "x.txt").write_bytes(b"x")
    extract(sites, tmp_path / "s.h5", SPEC, listing=OPTIONS)
    select(tmp_path / "s.h5", tmp_path / "few.h5", "label == 'cat'")
    with Store(tmp_path / "s.h5") as one, Store(tmp_path / "few.h5") as other:
        assert one.listing == other.listing
        assert one.listing["notes"]


@pytest.mark.parametrize("path", OLD_STORES, ids=lambda path: path.name)
def test_a_store_of_an_older_version_has_no_listing(path):
    with Store(path) as store:
        assert store.listing == {}
    assert "listing" not in describe(path)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"layout": 1, "columns": {}, "notes": []}', '{"layout": "x", "columns": {}, "notes": [{}]}']
)
def test_a_damaged_listing_is_refused(sites, tmp_path, oxford, text):
    extract(sites, tmp_path / "s.h5", SPEC, listing=OPTIONS)
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file.attrs["listing"] = text
    with Store(tmp_path / "s.h5") as store, pytest.raises(StoreCorrupt, match="cut short or damaged"):
        _ = store.listing


def test_notes_that_are_too_long_for_a_store_are_left_out(sites, tmp_path, oxford):
    """The name of a column may have any length, and HDF5 would refuse the attribute after all work is done."""
    name = "x" * (2 * LISTING_BYTES)
    (sites / "rows.csv").write_text(f"path,{name}\nsiteA/cat/1.png,cat\n")
    extract(sites / "rows.csv", tmp_path / "s.h5", SPEC, listing=ListingOptions(label_column=name))
    with Store(tmp_path / "s.h5") as store:
        assert store.classes == ["cat"]
        assert store.listing["layout"] == "manifest"
        assert [note["text"] for note in store.listing["notes"]] == [
            "the notes on the source are too long for the store"
        ]
