import os

import pytest

from featx.errors import ListingError
from featx.images.sources.local_files import LocalFiles
from featx.images.sources.manifest import read_manifest
from featx.images.sources.options import DEFAULT_OPTIONS

pytestmark = pytest.mark.core


def rows_of(folder, content):
    file = folder / "rows.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    files = LocalFiles(folder)
    return read_manifest(files, "rows.csv", files, DEFAULT_OPTIONS).rows


def columns(rows):
    return list(rows.paths), list(rows.labels), {name: list(column) for name, column in rows.columns.items()}


def test_columns_may_be_in_any_order_and_others_are_ignored(tmp_path):
    rows = rows_of(tmp_path, "split_1, label ,note,path,split\ntrain, rose ,x,a.jpg,test\n,,,b.jpg,\n")
    assert columns(rows) == (["a.jpg", "b.jpg"], [("rose",), ()], {"split_1": ["train", ""], "split": ["test", ""]})


def test_weight_columns_are_kept(tmp_path):
    rows = rows_of(tmp_path, "path,weight,split,weigh,weight_2\na.jpg,0.5,train,x,3\n")
    assert columns(rows)[2] == {"weight": ["0.5"], "split": ["train"], "weight_2": ["3"]}


def test_several_labels_are_sorted_without_duplicates(tmp_path):
    rows = rows_of(tmp_path, "path,label\na.jpg, rose | ant|rose\nb.jpg,ant\nc.jpg,\n")
    assert list(rows.labels) == [("ant", "rose"), ("ant",), ()]


def test_rows_are_sorted_with_all_their_columns(tmp_path):
    rows = rows_of(tmp_path, "path,label,split\nc,z,1\n\xe4,y,2\nB,x,3\na,z,4\n")
    assert columns(rows) == (["B", "a", "c", "ä"], [("x",), ("z",), ("z",), ("y",)], {"split": ["3", "4", "1", "2"]})


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
def test_paths_are_normalized(tmp_path, content, paths):
    assert list(rows_of(tmp_path, content).paths) == paths


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r'rows.csv must have a column "path" .*, got the header \'\''),
        ("place;label\na.jpg;x\n", r'must have a column "path" .*, got the header \'place,label\''),
        ("file name,image\nb.jpg,a.jpg\n", r"must have one column of paths, got file name, image; rename one of them"),
        ("path,class,category\na.jpg,x,y\n", r"must have one column of labels, got class, category; choose one by"),
        ("path,label,label\na,b,c\n", "columns of manifest .* must have different names, got 'label' more than once"),
        ("path,label\na.jpg\n", "line 2 of manifest .* must have 2 columns, as the header has, got 1"),
        ('path,label\n"x\ny",b\na,b,c\n', "line 4 of manifest .* must have 2 columns, as the header has, got 3"),
        (
            "path,split\na.jpg,train\nb.jpg,test\n./a.jpg,test\na.jpg,\na.jpg,test\n",
            "must give each image one value of split, got 'test' and 'train' for 'a.jpg' in lines 2, 4 and 6",
        ),
        (
            "path,weight\na.jpg,1\na.jpg,2\n",
            "one value of weight, got '1' and '2' for 'a.jpg' in lines 2 and 3; remove",
        ),
        (
            "path\n/etc/a.jpg\n",
            "line 2 of .* below the root by a relative path, got '/etc/a.jpg'; move .* the root is /",
        ),
        ("path\n../a.jpg\n", r"got '\.\./a.jpg'"),
        ("path\nx/../../a.jpg\n", r"got 'x/\.\./\.\./a.jpg'"),
        ("path,label\n,rose\n", "line 2 .* must name a file below the root by a relative path, got ''"),
        ("path,label\na.jpg,rose|\n", r"line 2 of manifest .* must have a label on each side of \|, got 'rose\|'"),
        (b"path,label\na.jpg,ros\xe9\n", "line 2 of manifest .* must be UTF-8, got .*; save the file as UTF-8"),
        (b"path,split\na.jpg,x\nb.jpg,\xe9\n", "line 3 of manifest .* must be UTF-8, got .*; save the file as UTF-8"),
        (
            "path,label\na.jpg,x\0\n",
            r"line 2 of manifest .* must have no NUL character in labels and columns, got 'x\\x00'",
        ),
        ("path,split/a\na.jpg,x\n", r"manifest .*rows.csv must have no / in the names of .*, got 'split/a'; rename it"),
        (b"path,split\xff\na.jpg,x\n", r"manifest .*rows.csv must be UTF-8, got 'split\\udcff'; save the file"),
        ('path\n"a.jpg\n', "rows.csv is not valid CSV: unexpected end of data"),
        ("path\n" + "x" * 200_000, "rows.csv is not valid CSV: field larger"),
    ],
)
def test_invalid_manifests_are_refused(tmp_path, content, message):
    with pytest.raises(ListingError, match=message):
        rows_of(tmp_path, content)


def test_an_unreadable_manifest_is_refused(tmp_path):
    files = LocalFiles(tmp_path)
    with pytest.raises(ListingError, match=r"manifest .*none.csv cannot be read: No such file"):
        read_manifest(files, "none.csv", files, DEFAULT_OPTIONS)


def test_a_file_name_may_begin_with_two_dots(tmp_path):
    assert list(rows_of(tmp_path, "path\n..a.jpg\n").paths) == ["..a.jpg"]
