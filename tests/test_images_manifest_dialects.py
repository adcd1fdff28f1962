"""Manifests as people have them: written by Excel, on Windows, with other names of columns, or one row per label."""

import json
import unicodedata

import pytest
from click.testing import CliRunner
from PIL import Image

from featx import ListingOptions
from featx.cli import main
from featx.errors import ListingError
from featx.images import list_images
from featx.images.sources.notes import Note
from featx.store import Store

pytestmark = pytest.mark.core
FILES = ("cat/1.jpg", "dog/2.jpg")


@pytest.fixture
def root(tmp_path):
    for name in FILES:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def listed(root, text, name="rows.csv", **options):
    """List a manifest; return the labels by path, and the notes."""
    file = root / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    listing = list_images(file, options.pop("root", None), options=ListingOptions(**options))
    return dict(zip(listing.paths, ("|".join(names) for names in listing.rows.labels), strict=True)), listing.notes


def read(root, text, **options):
    """List a manifest whose images are labeled by their folders, and return the notes."""
    labels, notes = listed(root, text, **options)
    assert labels == {"cat/1.jpg": "cat", "dog/2.jpg": "dog"}
    return notes


def test_absolute_paths_below_the_root_are_taken(root, tmp_path_factory):
    text = f"path,label\n{root}/cat/1.jpg,cat\n{root}/dog/../dog/2.jpg,dog\n"
    note = Note("converted", f"2 absolute paths below {root}, taken as relative", 2)
    assert read(root, text) == (note,)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "rows.csv").write_text(text.replace(f"{root}/cat", "cat"))
    listing = list_images(elsewhere / "rows.csv", root)
    assert list(listing.paths) == list(FILES)
    assert [note.count for note in listing.notes] == [1]
    (elsewhere / "link").symlink_to(root)
    assert len(list_images(elsewhere / "rows.csv", elsewhere / "link")) == 2
    with pytest.raises(
        ListingError, match=rf"line 3 .* by a relative path, got '{root}.*; move .*: the root is {elsewhere}$"
    ):
        list_images(elsewhere / "rows.csv")


def test_a_path_that_begins_like_the_root_is_not_below_it(root):
    with pytest.raises(ListingError, match="must name a file below the root"):
        listed(root, f"path\n{root}-other/cat/1.jpg\n")
    with pytest.raises(ListingError, match="must name a file below the root"):
        listed(root, f"path\n{root}/../cat/1.jpg\n")


def test_backslashes_of_windows_are_separators_where_files_exist_so(root):
    note = Note("converted", "backslashes in 2 paths, taken as separators of folders", 2)
    assert read(root, "path,label\ncat\\1.jpg,cat\n.\\dog\\2.jpg,dog\n") == (note,)
    (root / "cat\\1.jpg").touch()
    assert listed(root, "path\ncat\\1.jpg\n") == ({"cat\\1.jpg": ""}, ())


def test_an_absolute_path_of_windows_is_named(root):
    with pytest.raises(ListingError, match=r"'C:.*1.jpg' does not exist; it is an absolute path of Windows: give the"):
        listed(root, "path\nC:\\data\\cat\\1.jpg\n")


def test_urls_need_a_root_that_is_a_url(root):
    text = "path,label\nmemory://bucket/photos/cat/1.jpg,cat\nmemory://bucket/photos/dog/2.jpg,dog\n"
    with pytest.raises(ListingError, match=r"line 2 .* got the URL 'memory://.*'; give --root memory://bucket, or a"):
        listed(root, text)
    memory = pytest.importorskip("fsspec").filesystem("memory")
    try:
        for name in FILES:
            memory.pipe(f"/bucket/photos/{name}", b"y")
        (root / "rows.csv").write_text(text)
        listing = list_images(root / "rows.csv", "memory://bucket/photos")
        assert list(listing.paths) == list(FILES)
        assert listing.read(1) == b"y"
        (root / "rows.csv").write_text(text.replace("memory://bucket/photos/", "").replace("/", "\\"))
        listing = list_images(root / "rows.csv", "memory://bucket/photos")
        assert listing.read(1) == b"y"
    finally:
        memory.store.clear()


def test_empty_columns_and_rows_of_excel_are_nothing(root):
    assert read(root, "path,label,,\ncat/1.jpg,cat,,\n,,,\ndog/2.jpg,dog\n , ,,\n,,,\n") == ()
    assert read(root, "path,label\r\ncat/1.jpg,cat\r\ndog/2.jpg,dog\r\n,\r\n") == ()


def test_a_column_without_a_name_is_reported_if_it_has_values(root):
    note = Note("skipped", "1 column without a name, not kept", 1)
    assert read(root, ",path,label\n0,cat/1.jpg,cat\n1,dog/2.jpg,dog\n") == (note,)


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_semicolons_and_tabs_separate_columns(root, separator, name):
    text = "path,label,weight\ncat/1.jpg,cat,\ndog/2.jpg,dog,\n".replace(",", separator)
    note = Note("guessed", f"columns are separated by {name}")
    assert read(root, text) == (note,)
    assert read(root, text, name="rows.tsv") == (note,)
    assert read(root, text.replace("cat/1.jpg", '"cat/1.jpg"')) == (note,)


def test_a_decimal_comma_stays_in_its_column(root):
    (root / "rows.csv").write_text("path;weight\ncat/1.jpg;0,5\n")
    assert list(list_images(root / "rows.csv").columns["weight"]) == ["0,5"]


def test_text_from_excel_may_be_utf_16(root):
    text = "path\tlabel\r\ncat/1.jpg\tcat\r\ndog/2.jpg\tdog\r\n"
    assert read(root, text.encode("utf-16")) == (
        Note("converted", "the manifest is UTF-16"), Note("guessed", "columns are separated by tabs"),
    )  # fmt: skip


def test_another_encoding_is_refused_with_the_remedy(root):
    with pytest.raises(
        ListingError, match=r"line 2 .* must be UTF-8, got .*; save the file as UTF-8 \(in Excel: CSV UTF-8\)"
    ):
        listed(root, "path,label\ncat/1.jpg,Käse\n".encode("cp1252"))
    with pytest.raises(ListingError, match=r"does not exist, and is not UTF-8: save the manifest as UTF-8 \(in Excel"):
        listed(root, "path\nKäse.jpg\n".encode("cp1252"))
    with pytest.raises(ListingError, match=r"must be UTF-8 or UTF-16, but is damaged: .*; save it as UTF-8"):
        listed(root, "path\ncat/1.jpg\n".encode("utf-16")[:-1])


def test_blanks_around_paths_are_removed_where_files_exist_so(root):
    assert read(root, "label, path\ncat, cat/1.jpg\ndog, dog/2.jpg \n") == (
        Note("converted", "blanks around 2 paths, removed", 2),
    )
    (root / " a.jpg").touch()
    assert listed(root, "path\n a.jpg\n") == ({" a.jpg": ""}, ())


def test_names_without_a_suffix_get_the_one_that_exists(root):
    notes = read(root, "image_id,label\ncat/1,cat\ndog/2,dog\n")
    assert notes == (
        Note("guessed", "the path column is image_id"), Note("converted", "2 paths without a suffix, read as .jpg", 2),
    )  # fmt: skip


def test_several_ways_of_writing_paths_are_recognized_together(root):
    notes = read(root, "label,image_id\ncat, cat\\1\ndog,dog\\2\n")
    assert [(note.kind, note.text) for note in notes] == [
        ("guessed", "the path column is image_id"),
        ("converted", "blanks around 1 path, removed"),
        ("converted", "backslashes in 2 paths, taken as separators of folders"),
        ("converted", "2 paths without a suffix, read as .jpg"),
    ]


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_may_have_another_unicode_form_than_the_files(root, forms):
    """A Mac writes them in another form than Windows."""
    table, files = forms
    (root / unicodedata.normalize(files, "cat/ä.jpg")).touch()
    labels, (note,) = listed(root, unicodedata.normalize(table, "path,label\ncat/1.jpg,x\ncat/ä.jpg,x\n"))
    assert list(labels) == sorted(["cat/1.jpg", unicodedata.normalize(files, "cat/ä.jpg")])
    assert note == Note("converted", f"accents in 1 path, read in the Unicode form of the files ({files})", 1)
    (root / unicodedata.normalize(table, "cat/ä.jpg")).touch()
    assert listed(root, unicodedata.normalize(table, "path\ncat/ä.jpg\n"))[1] == ()


def test_suffixes_may_be_in_another_case_than_those_of_the_files(root):
    """Windows does not distinguish them."""
    assert read(root, "path,label\ncat/1.JPG,cat\ndog/2.jpg,dog\n") == (
        Note("converted", "suffixes of 1 path, read in the case of the files", 1),
    )
    (root / "dog/2.jpg").rename(root / "dog/2.PNG")
    assert listed(root, "path\ndog/2.png\n")[0] == {"dog/2.PNG": ""}


@pytest.mark.parametrize("name", ["1.jpg", "1"])
def test_the_folder_with_the_files_is_named_if_it_is_beside_the_manifest(root, name):
    with pytest.raises(ListingError, match=rf"does not exist; but it is in {root}/cat: give --root {root}/cat$"):
        listed(root, f"path\n{name}\n")


def test_columns_that_are_not_kept_may_have_the_same_name(root):
    assert read(root, "path,x,label,x\ncat/1.jpg,1,cat,2\ndog/2.jpg,3,dog,4\n") == (
        Note("skipped", "1 column not kept: x", 1),
    )


def test_a_column_that_may_be_the_split_is_named(root):
    (_, hint) = read(root, "path,label,Usage\ncat/1.jpg,cat,Training\ndog/2.jpg,dog,PublicTest\n")
    assert hint == Note("hint", "the column Usage may be the splits: to keep it, rename it to split")


def test_local_files_may_be_written_as_urls(root):
    (note,) = read(root, f"path,label\nfile://{root}/cat/1.jpg,cat\nfile://{root}/%64og/2.jpg,dog\n")
    assert note.text == f"2 absolute paths below {root}, taken as relative"


def test_a_manifest_without_a_header_is_recognized(root):
    with pytest.raises(
        ListingError, match=r"got the header 'cat/1\.jpg,cat'; the first line must be the names of the col"
    ):
        listed(root, "cat/1.jpg,cat\ndog/2.jpg,dog\n")


@pytest.mark.parametrize(
    "name",
    ["file_name", "filename", "File Name", "filepath", "file_path", "image_path", "image", "img", " FILE ", "Path"],
)
def test_usual_names_of_the_path_column(root, name):
    assert read(root, f"label,{name}\ncat,cat/1.jpg\ndog,dog/2.jpg\n") == (
        Note("guessed", f"the path column is {name.strip()}"),
    )


@pytest.mark.parametrize(
    "name", ["Label", "labels", "class", "class_name", "Class Name", "category", "target", "LabelName", "tags"]
)
def test_usual_names_of_the_label_column(root, name):
    assert read(root, f"path,{name}\ncat/1.jpg,cat\ndog/2.jpg,dog\n") == (
        Note("guessed", f"the label column is {name}"),
    )


def test_the_names_path_and_label_come_first(root):
    notes = read(root, "file_name,path,class,label\nx,cat/1.jpg,y,cat\nx,dog/2.jpg,y,dog\n")
    assert notes == (Note("skipped", "2 columns not kept: file_name, class", 2),)


def test_several_columns_that_may_be_labels_are_refused(root):
    text = "path,class,category\ncat/1.jpg,cat,x\ndog/2.jpg,dog,y\n"
    with pytest.raises(
        ListingError, match="must have one column of labels, got class, category; choose one by --label-col"
    ):
        listed(root, text)
    assert read(root, text, label_column="Class") == (Note("skipped", "1 column not kept: category", 1),)


def test_a_manifest_without_a_label_column_says_so(root):
    text = "path,breed,size\ncat/1.jpg,cat,1\ndog/2.jpg,dog,2\n"
    labels, notes = listed(root, text)
    assert set(labels.values()) == {""}
    assert notes == (Note("hint", "no column label; there are breed, size: --label-column NAME"),)
    assert read(root, text, label_column="breed")[0].text == "1 column not kept: size"
    with pytest.raises(ListingError, match=r"--label-column must be a column of manifest .*: breed, size, got 'race'"):
        listed(root, text, label_column="race")
    assert listed(root, "path\ncat/1.jpg\n")[1] == ()


def test_the_group_column_is_kept_and_offered(root):
    text = "path,label,Patient_ID\ncat/1.jpg,cat,7\ndog/2.jpg,dog,8\n"
    assert read(root, text) == (
        Note("skipped", "1 column not kept: Patient_ID", 1),
        Note("hint", "images of one Patient_ID may be in training and in test: --group-column Patient_ID"),
    )
    assert read(root, text, group_column="patient_id") == ()
    listing = list_images(root / "rows.csv", options=ListingOptions(group_column="Patient_ID"))
    assert list(listing.columns["group"]) == ["7", "8"]
    assert listing.summary.columns == {"group": "Patient_ID"}


def test_kept_columns_may_begin_with_a_capital(root):
    (root / "rows.csv").write_text("path,Split,SPLIT_2,Group\ncat/1.jpg,Training,a,1\ndog/2.jpg,dev,b,2\n")
    listing = list_images(root / "rows.csv")
    assert {name: list(column) for name, column in listing.columns.items()} == {
        "split": ["train", "val"], "split_2": ["a", "b"], "group": ["1", "2"],
    }  # fmt: skip
    assert listing.notes == (
        Note("converted", "values of split read by their usual meaning: Training as train, dev as val"),
    )
    assert listing.summary.columns["split_2"] == "SPLIT_2"


def test_values_of_splits_with_other_meanings_are_kept(root):
    (root / "rows.csv").write_text("path,split\ncat/1.jpg,Training\ndog/2.jpg,gallery\n")
    listing = list_images(root / "rows.csv")
    assert list(listing.columns["split"]) == ["Training", "gallery"]
    assert listing.notes == ()


def test_one_row_per_label_gives_several_labels(root):
    text = "path,label\ncat/1.jpg,beach\ncat/1.jpg,sunset\ndog/2.jpg,beach\n./dog/2.jpg,beach\n"
    labels, notes = listed(root, text)
    assert labels == {"cat/1.jpg": "beach|sunset", "dog/2.jpg": "beach"}
    assert notes == (
        Note("merged", "1 row equal to another row of the same image", 1),
        Note("merged", "1 image with several rows, given the labels of all its rows (a|b)", 1),
    )


def test_many_rows_per_image_are_joined_as_one_by_one(root):
    rows = [(n * 7919 % 40, n * 31 % 6) for n in range(400)]
    text = "path,label,weight\n" + "".join(f"{path}.jpg,{label or ''},{path}\n" for path, label in rows)
    (root / "7.jpg").touch()
    labels, notes = listed(root, text)
    expected = {path: sorted({str(label) for other, label in rows if other == path} - {"0"}) for path, _ in rows}
    assert labels == {f"{path}.jpg": "|".join(names) for path, names in expected.items()}
    distinct = len(set(rows))
    several = sum(len({label for other, label in rows if other == path}) > 1 for path in expected)
    assert [note.count for note in notes] == [400 - distinct, several]


def test_a_json_lines_manifest_is_listed(root):
    text = (
        '{"file_name": "dog/2.jpg", "label": "dog", "text": {"a": 1}}\n\n{"file_name": "cat/1.jpg", "label": ["cat"]}\n'
    )
    notes = read(root, text, name="metadata.jsonl")
    assert [note.text for note in notes] == ["the path column is file_name", "1 column not kept: text"]
    for line, message in (
        ("[1]", "must be a JSON object, got"),
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid"),
    ):
        with pytest.raises(ListingError, match=rf"line 2 of manifest .*rows\.jsonl {message}"):
            listed(root, f'{{"path": "cat/1.jpg"}}\n{line}\n', name="rows.jsonl")


@pytest.mark.parametrize(("name", "remedy"), [("a.xlsx", "save the table as CSV"), ("a.tar.gz", "unpack the file")])
def test_a_file_of_another_kind_is_refused_with_the_remedy(root, name, remedy):
    (root / name).touch()
    with pytest.raises(ListingError, match=remedy):
        list_images(root / name)


def test_labels_that_open_images_says_are_absent_are_left_out(root):
    rows = "cat/1,x,/m/cat,1", "cat/1,x,/m/dog,0", "cat/1,x,/m/pet,0.7", "dog/2,x,/m/cat,0"
    text = "\n".join(["ImageID,Source,LabelName,Confidence", *rows])
    labels, notes = listed(root, text)
    assert labels == {"cat/1.jpg": "/m/cat|/m/pet", "dog/2.jpg": ""}
    assert [note.text for note in notes] == [
        "the path column is ImageID",
        "the label column is LabelName",
        "2 columns not kept: Source, Confidence",
        "4 paths without a suffix, read as .jpg",
        "2 labels with confidence 0, which Open Images gives to labels that do not apply",
        "1 image with several rows, given the labels of all its rows (a|b)",
    ]
    text = text.replace("LabelName", "Label")
    assert listed(root, text)[0]["dog/2.jpg"] == "/m/cat"


def test_labels_that_nobody_looks_at_need_not_be_chosen(root):
    (root / "rows.csv").write_text("path,class,category\ncat/1.jpg,cat,x\ndog/2.jpg,dog,y\n")
    assert list(list_images(root / "rows.csv", labeled=False).paths) == list(FILES)


def test_a_class_that_stands_for_no_label_is_said(root):
    """Programs write missing values as text."""
    (root / "rows.csv").write_text("path,label\ncat/1.jpg,NaN\ndog/2.jpg,dog\n")
    listing = list_images(root / "rows.csv")
    assert listing.classes == ("NaN", "dog")
    assert listing.summary.notes == (
        Note("hint", "classes that may stand for no label: NaN (1); for no label, leave the cell empty", 1),
    )


def test_columns_that_the_command_line_names_reach_the_store(tmp_path):
    (tmp_path / "cat").mkdir()
    for number in range(3):
        Image.new("RGB", (32, 32), (90 * number, 0, 0)).save(tmp_path / "cat" / f"{number}.png")
    rows = [f"cat\\{number}.png;{'ab'[number % 2]};x;{number // 2};" for number in range(3)]
    (tmp_path / "rows.csv").write_text("\n".join(["File;Finding;Class;Patient;", *rows, ";;;;"]))
    arguments = ["extract", str(tmp_path / "rows.csv"), "-o", str(tmp_path / "a.h5"), "--size", "32", "--blocks", "1",
                 "--label-column", "finding", "--group-column", "patient", "--json"]  # fmt: skip
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["listing"]["columns"] == {"label": "Finding", "group": "Patient"}
    assert [note["text"] for note in report["listing"]["notes"]] == [
        "columns are separated by semicolons",
        "the path column is File",
        "1 column not kept: Class",
        "backslashes in 3 paths, taken as separators of folders",
    ]
    with Store(tmp_path / "a.h5") as store:
        assert [store.classes[label] for label in store.labels] == ["a", "b", "a"]
        assert list(store.columns["group"]) == ["0", "0", "1"]
