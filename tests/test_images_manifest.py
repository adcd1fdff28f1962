import os

import pytest

from featx.errors import ListingError
from featx.images.manifest import Entry, read_manifest


def manifest(folder, content):
    file = folder / "rows.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_columns_may_come_in_any_order_with_others_between(tmp_path):
    file = manifest(tmp_path, "split_1, label ,note,path,split\ntrain, rose ,x,a.jpg,test\n,,,b.jpg,\n")
    names, entries = read_manifest(file)
    assert names == ("split_1", "split")
    assert entries == [Entry("a.jpg", "rose", ("train", "test")), Entry("b.jpg", "", ("", ""))]


def test_columns_of_weights_are_kept(tmp_path):
    file = manifest(tmp_path, "path,weight,split,weigh,weight_2\na.jpg,0.5,train,x,3\n")
    assert read_manifest(file) == (("weight", "split", "weight_2"), [Entry("a.jpg", "", ("0.5", "train", "3"))])


def test_several_labels_stand_once_each_and_sorted(tmp_path):
    file = manifest(tmp_path, "path,label\na.jpg, rose | ant|rose\nb.jpg,ant\nc.jpg,\n")
    assert [entry.label for entry in read_manifest(file)[1]] == ["ant|rose", "ant", ""]


@pytest.mark.parametrize(
    ("content", "paths"),
    [
        ("path\na.jpg\n", ["a.jpg"]),
        ("\ufeffpath\na.jpg\n", ["a.jpg"]),
        ("path\r\na.jpg\r\n\r\n\r\nb.jpg\r\n", ["a.jpg", "b.jpg"]),
        ('path\n"a, b.jpg"\n"new\nline.jpg"\n', ["a, b.jpg", "new\nline.jpg"]),
        ("path\n./x/../a.jpg\n🌻//b.jpg\n", ["a.jpg", "🌻/b.jpg"]),
        (b"path\nbad\xff.jpg\n", [os.fsdecode(b"bad\xff.jpg")]),
        ("path\n", []),
    ],
)
def test_paths(tmp_path, content, paths):
    assert [entry.path for entry in read_manifest(manifest(tmp_path, content))[1]] == paths


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r'rows.csv must have a column "path" .*, got the header \'\''),
        ("file;label\na.jpg;x\n", r'must have a column "path" .*, got the header \'file;label\''),
        ("label,image\nx,a.jpg\n", r'must have a column "path" .*, got the header \'label,image\''),
        ("path,label,label\na,b,c\n", "columns of manifest .* must have different names, got 'label' more than once"),
        ("path,label\na.jpg\n", "line 2 of manifest .* must have 2 columns, as the header has, got 1"),
        ('path,label\n"x\ny",b\na,b,c\n', "line 4 of manifest .* must have 2 columns, as the header has, got 3"),
        ("path\na.jpg\nb.jpg\n./a.jpg\n", "names 'a.jpg' twice, in lines 2 and 4; remove one"),
        ("path\n/etc/a.jpg\n", "line 2 of manifest .* below the root by a relative path, got '/etc/a.jpg'; move"),
        ("path\n../a.jpg\n", r"got '\.\./a.jpg'"),
        ("path\nx/../../a.jpg\n", r"got 'x/\.\./\.\./a.jpg'"),
        ("path,label\n,rose\n", "line 2 .* must name a file below the root by a relative path, got ''"),
        ("path,label\na.jpg,rose|\n", r"line 2 of manifest .* must have a label on each side of \|, got 'rose\|'"),
        (b"path,label\na.jpg,ros\xe9\n", "line 2 of manifest .* is not UTF-8; save the file as UTF-8"),
        ('path\n"a.jpg\n', "rows.csv is no valid CSV: unexpected end of data"),
        ("path\n" + "x" * 200_000, "rows.csv is no valid CSV: field larger"),
    ],
)
def test_what_a_manifest_may_not_be(tmp_path, content, message):
    with pytest.raises(ListingError, match=message):
        read_manifest(manifest(tmp_path, content))


def test_a_manifest_that_cannot_be_read(tmp_path):
    with pytest.raises(ListingError, match=r"manifest .*none.csv cannot be read: No such file"):
        read_manifest(tmp_path / "none.csv")


def test_a_name_that_only_begins_with_dots_stays_inside(tmp_path):
    assert read_manifest(manifest(tmp_path, "path\n..a.jpg\n"))[1][0].path == "..a.jpg"
