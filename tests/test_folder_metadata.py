"""Files metadata.csv, .jsonl and .parquet beside images give labels and columns, as in Hugging Face's imagefolder."""

import json
from pathlib import Path

import pytest

from featx.errors import ListingError
from featx.images.sources.any_source import list_images
from featx.images.sources.options import ListingOptions


def touch(root, *names):
    for name in names:
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def write_table(path, rows):
    """Write rows, which are dictionaries, in the format that the suffix of the path names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        arrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(arrow.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n")


def labels_of(listing):
    names = [*listing.classes, ""]
    return {path: names[label] for path, label in zip(listing.paths, listing.labels, strict=True)}


def texts(listing, kind=None):
    return [note.text for note in listing.summary.notes if kind in (None, note.kind)]


ROWS = [{"file_name": f"{number}.jpg", "label": "cat" if number < 2 else "dog"} for number in range(4)]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_metadata_file_gives_the_labels(tmp_path, suffix):
    touch(tmp_path, *(row["file_name"] for row in ROWS))
    write_table(tmp_path / f"metadata{suffix}", ROWS)
    listing = list_images(tmp_path)
    assert labels_of(listing) == {"0.jpg": "cat", "1.jpg": "cat", "2.jpg": "dog", "3.jpg": "dog"}
    assert listing.layout == "images with metadata files"
    assert texts(listing) == [f"4 images with labels from metadata{suffix}, not from folders"]
    assert listing.columns == {}


def test_each_split_folder_may_have_a_metadata_file(tmp_path):
    for split in ("train", "test"):
        touch(tmp_path, *(f"{split}/{row['file_name']}" for row in ROWS))
        write_table(tmp_path / split / "metadata.csv", ROWS)
    listing = list_images(tmp_path)
    assert listing.summary.classes == {"cat": 4, "dog": 4}
    assert listing.summary.splits == {"test": 4, "train": 4}
    assert texts(listing) == [
        "the folders test, train are splits, not classes (--layout, --split-folders)",
        "8 images with labels from test/metadata.csv, train/metadata.csv, not from folders",
    ]


def test_a_folder_named_images_is_no_class_beside_metadata(tmp_path):
    touch(tmp_path, "images/a/0.jpg", "images/b/1.jpg")
    rows = [{"file_name": "images/a/0.jpg", "label": "cat"}, {"file_name": "images/b/1.jpg", "label": "dog"}]
    write_table(tmp_path / "metadata.csv", rows)
    assert labels_of(list_images(tmp_path)) == {"images/a/0.jpg": "cat", "images/b/1.jpg": "dog"}


def test_captions_do_not_replace_the_labels_of_class_folders(tmp_path):
    touch(tmp_path, "cat/0.jpg", "dog/1.jpg")
    rows = [
        {"file_name": "cat/0.jpg", "text": "a cat", "split": "train", "patient": 1},
        {"file_name": "dog/1.jpg", "text": "a dog", "split": "test", "patient": 2},
    ]
    write_table(tmp_path / "metadata.csv", rows)
    listing = list_images(tmp_path)
    assert labels_of(listing) == {"cat/0.jpg": "cat", "dog/1.jpg": "dog"}
    assert listing.summary.splits == {"test": 1, "train": 1}
    assert any("metadata.csv: no column label; there are text, patient" in text for text in texts(listing))


def test_columns_of_metadata_can_be_chosen(tmp_path):
    touch(tmp_path, "0.jpg", "1.jpg")
    rows = [
        {"file_name": "0.jpg", "finding": "no", "person": "p1"},
        {"file_name": "1.jpg", "finding": "yes", "person": "p2"},
    ]
    write_table(tmp_path / "metadata.jsonl", rows)
    listing = list_images(tmp_path, options=ListingOptions(label_column="finding", group_column="person"))
    assert labels_of(listing) == {"0.jpg": "no", "1.jpg": "yes"}
    assert list(listing.columns["group"]) == ["p1", "p2"]
    assert listing.summary.columns == {"label": "finding", "group": "person"}
    with pytest.raises(ListingError, match=r"--label-column must be a column of .*metadata.jsonl: .*, got 'none'"):
        list_images(tmp_path, options=ListingOptions(label_column="none"))


def test_what_does_not_fit_together_is_said(tmp_path):
    touch(tmp_path, "0.jpg", "1.jpg", "2.jpg")
    write_table(tmp_path / "metadata.csv", [*ROWS[:2], {"file_name": "gone.jpg", "label": "dog"}])
    listing = list_images(tmp_path)
    assert labels_of(listing) == {"0.jpg": "cat", "1.jpg": "cat", "2.jpg": ""}
    assert texts(listing) == [
        "2 images with labels from metadata.csv, not from folders",
        "1 image not named in metadata.csv, and so without labels",
        "1 row of metadata.csv whose files are not here",
    ]


def test_a_split_in_the_metadata_wins_over_the_folder(tmp_path):
    touch(tmp_path, "train/cat/0.jpg", "test/cat/1.jpg")
    rows = [{"file_name": "train/cat/0.jpg", "split": "val"}, {"file_name": "test/cat/1.jpg", "split": ""}]
    write_table(tmp_path / "metadata.csv", rows)
    assert list_images(tmp_path).summary.splits == {"test": 1, "val": 1}


def test_a_metadata_file_about_something_else_is_not_used_and_that_is_said(tmp_path):
    touch(tmp_path, "cat/0.jpg", "dog/1.jpg")
    (tmp_path / "metadata.csv").write_text("author,year\nme,2020\n")
    listing = list_images(tmp_path)
    assert listing.classes == ("cat", "dog")
    (text,) = texts(listing, "skipped")
    assert text.startswith("metadata.csv is not used: manifest ")


def test_a_flat_layout_does_not_use_metadata(tmp_path):
    touch(tmp_path, "0.jpg")
    write_table(tmp_path / "metadata.csv", ROWS[:1])
    listing = list_images(tmp_path, options=ListingOptions(layout="flat"))
    assert listing.classes == ()
    assert texts(listing, "skipped") == ["1 file skipped: .csv (1)"]
    assert list_images(tmp_path, labeled=False).classes == ()


def test_a_table_of_another_name_beside_unlabeled_images_is_pointed_to(tmp_path):
    touch(tmp_path, "images/0.jpg", "images/1.jpg", "labels.csv", "images/cat.csv")
    (tmp_path / "labels.csv").write_text("path,label\n0.jpg,cat\n")
    (hint,) = texts(list_images(tmp_path / "images"), "hint")
    assert hint.startswith(f"no image has a label; if cat.csv has the labels, give {tmp_path}/images/cat.csv instead")


def test_the_metadata_file_of_the_nearest_folder_counts(tmp_path):
    touch(tmp_path, "a/0.jpg", "a/1.jpg", "b/0.jpg", "a/2.jpg")
    rows = [{"file_name": name, "label": "far"} for name in ("a/0.jpg", "a/1.jpg", "b/0.jpg")]
    write_table(tmp_path / "metadata.csv", rows)
    write_table(tmp_path / "a" / "metadata.jsonl", [{"file_name": "0.jpg", "label": "near"}])
    listing = list_images(tmp_path)
    assert labels_of(listing) == {"a/0.jpg": "near", "a/1.jpg": "far", "a/2.jpg": "", "b/0.jpg": "far"}


def test_metadata_of_other_images_changes_no_label(tmp_path):
    touch(tmp_path, "cat/0.jpg", "dog/1.jpg")
    write_table(tmp_path / "dog" / "metadata.csv", [{"file_name": "gone.jpg", "label": "x"}])
    listing = list_images(tmp_path)
    assert labels_of(listing) == {"cat/0.jpg": "cat", "dog/1.jpg": "dog"}
    assert texts(listing) == ["dog/metadata.csv is not used: it names no image that is here"]


def test_a_path_out_of_the_folder_of_the_metadata_is_refused(tmp_path):
    touch(tmp_path, "photos/1.jpg", "secret.jpg")
    write_table(tmp_path / "photos" / "metadata.csv", [{"file_name": "../secret.jpg", "label": "b"}])
    listing = list_images(tmp_path / "photos")
    assert list(listing.paths) == ["1.jpg"]
    assert "line 2" in texts(listing)[0]
    assert "must name a file below the root" in texts(listing)[0]


def test_metadata_files_may_be_behind_a_url():
    memory = pytest.importorskip("fsspec").filesystem("memory")
    try:
        memory.pipe("/bucket/train/1.jpg", b"x")
        memory.pipe("/bucket/train/metadata.csv", b"file_name,label\n1.jpg,cat\n")
        listing = list_images("memory://bucket")
        assert labels_of(listing) == {"train/1.jpg": "cat"}
        assert listing.summary.splits == {"train": 1}
        assert listing.read(0) == b"x"
    finally:
        memory.store.clear()
