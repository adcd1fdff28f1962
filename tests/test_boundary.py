"""What the frozen layers give: computed once an image and view, wherever it is asked for."""

import dataclasses
import hashlib
import re
import threading

import filelock
import numpy as np
import pytest
from conftest import fill

from featx.engines.selection import make_engine
from featx.errors import DataError, ModelError
from featx.finetuning.activation_cache import AT_ONCE, Boundary
from featx.images.loading import load_images
from featx.images.sources.any_source import list_images
from featx.spec.extract_spec import ExtractSpec

SPEC = ExtractSpec(size=32, blocks=(3, 4, 5), pools=("avg", "max"), n_views=3, augment="flip,translate=0.1")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of images."""
    folder = tmp_path_factory.mktemp("boundary")
    fill(folder, each=6)
    return folder


class Stop(Exception):
    """Stands for a kill."""


def digests_of(photos, *names):
    return {name: hashlib.sha256((photos / name).read_bytes()).hexdigest() for name in names}


def frozen(boundary, oxford, photos, images, views=SPEC.n_views):
    """The rows of those views of images, of which those that are not there are computed."""
    boundary.fill(lambda spec: make_engine(oxford, spec, "cpu"), images, views, photos, 1, progress=False)
    return boundary.of(images.values(), views)


def test_frozen_layers_go_on_where_they_stopped(photos, oxford, tmp_path, monkeypatch):
    images = digests_of(photos, *(f"red/{number}.png" for number in range(6)))
    monkeypatch.setattr("featx.engines.streaming.PART_ROWS", 6)
    whole = frozen(Boundary(tmp_path / "whole", SPEC, 4), oxford, photos, images)[:]
    stopped, compute = Boundary(tmp_path / "stopped", SPEC, 4), Boundary._compute

    def stopping(self, *arguments):
        yield next(compute(self, *arguments))
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Boundary, "_compute", stopping)
        with pytest.raises(Stop):
            frozen(stopped, oxford, photos, images)
    (index,) = (tmp_path / "stopped").glob("*.index")
    assert index.read_text().splitlines()[1:] == [f"{digest} 3" for digest in list(images.values())[:2]]
    # What a process leaves that is killed while it writes: rows without a line, and part of one.
    with index.with_suffix(".boundary").open("ab") as file:
        file.write(b"rows")
    with index.open("ab") as file:
        file.write(b"12ab")
    np.testing.assert_array_equal(frozen(stopped, oxford, photos, images)[:], whole)
    assert index.read_text().splitlines()[1:] == [f"{digest} 3" for digest in images.values()]


def test_what_frozen_layers_give_is_known_by_content_and_spec(photos, oxford, tmp_path, monkeypatch):
    computed, compute = [], Boundary._compute

    def watched(self, make, spec, pending, *arguments):
        computed.append((list(pending), spec.n_views))
        return compute(self, make, spec, pending, *arguments)

    monkeypatch.setattr(Boundary, "_compute", watched)
    boundary, images = Boundary(tmp_path, SPEC, 4), digests_of(photos, *(f"red/{number}.png" for number in range(4)))
    frozen(boundary, oxford, photos, dict(list(images.items())[:2]))
    alone = frozen(boundary, oxford, photos, dict(list(images.items())[2:]), 1)[:]
    every = frozen(boundary, oxford, photos, images)
    # Of those of which only the plain view was there, the others were lacking.
    assert computed == [(["red/0.png", "red/1.png"], 3), (["red/2.png", "red/3.png"], 1),
                        (["red/2.png", "red/3.png"], 3)]  # fmt: skip
    np.testing.assert_allclose(every[np.array([6, 9])], alone, rtol=2e-3, atol=1e-3)
    moved = {"elsewhere/0.png": images["red/3.png"]}
    np.testing.assert_array_equal(frozen(boundary, oxford, photos, moved)[:], every[np.arange(9, 12)])
    # What a head takes does not matter; other views do.
    frozen(Boundary(tmp_path, dataclasses.replace(SPEC, blocks=(5,), pools=("max",)), 4), oxford, photos, images)
    assert len(computed) == 3
    frozen(Boundary(tmp_path, dataclasses.replace(SPEC, view_seed=7), 4), oxford, photos, images)
    assert computed[-1] == (list(images), 3)
    assert len(list(tmp_path.glob("*.boundary"))) == 2


def test_a_copy_that_was_not_finished_goes_on(photos, oxford, tmp_path):
    boundary, images = Boundary(tmp_path, SPEC, 4), digests_of(photos, *(f"red/{number}.png" for number in range(4)))
    every = frozen(boundary, oxford, photos, images)[:].copy()
    (path,) = tmp_path.glob("*.boundary")
    path.write_bytes(path.read_bytes()[:-1])
    missing = boundary._read_index().lacking(images, SPEC.n_views)
    assert list(missing) == ["red/3.png"]
    np.testing.assert_allclose(frozen(boundary, oxford, photos, images)[:], every, rtol=2e-3, atol=1e-3)


def test_equal_images_are_computed_once(photos, oxford, tmp_path):
    copies = tmp_path / "photos"
    copies.mkdir()
    for name in ("one.png", "other.png"):
        (copies / name).write_bytes((photos / "red" / "0.png").read_bytes())
    images = digests_of(copies, "one.png", "other.png")
    rows = frozen(Boundary(tmp_path, SPEC, 4), oxford, copies, images)
    assert len(rows.values) == SPEC.n_views
    np.testing.assert_array_equal(rows[:3], rows[3:])


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (b"featx boundary 2\n", "is not the index of a boundary that this featx can read; remove it"),
        (b"\x00\xff\n", "is not the index of a boundary that this featx can read; remove it"),
        (b"featx boundary 1\nabc 3\n", "is damaged at b'abc 3\\n'; remove it"),
        (b"featx boundary 1\n\x00\xff\n", "is damaged at"),
    ],
)
def test_a_damaged_index_is_told(photos, oxford, tmp_path, index, said):
    boundary, images = Boundary(tmp_path, SPEC, 4), digests_of(photos, "red/0.png")
    frozen(boundary, oxford, photos, images)
    (path,) = tmp_path.glob("*.index")
    path.write_bytes(index)
    with pytest.raises(ModelError, match=re.escape(said)):
        frozen(boundary, oxford, photos, images)


@pytest.mark.parametrize("left", [b"", b"featx bou", b"featx boundary 1\n", b"featx boundary 1\n12ab"])
def test_an_index_of_which_a_process_was_killed_is_begun_again(photos, oxford, tmp_path, left):
    boundary, images = Boundary(tmp_path, SPEC, 4), digests_of(photos, "red/0.png")
    frozen(boundary, oxford, photos, images)
    (path,) = tmp_path.glob("*.index")
    whole = path.read_bytes()
    path.write_bytes(left)
    frozen(boundary, oxford, photos, images)
    assert path.read_bytes() == whole


def test_an_image_that_has_changed_is_not_taken(photos, oxford, tmp_path):
    with pytest.raises(DataError, match=r"red/0\.png has changed since the store was made; update the store and fit"):
        frozen(Boundary(tmp_path, SPEC, 4), oxford, photos, {"red/0.png": "of other bytes"})


def test_a_process_waits_for_another_that_fills_the_same_boundary(photos, oxford, tmp_path, monkeypatch):
    images, compute, computed, others = digests_of(photos, "red/0.png"), Boundary._compute, [], []

    def beside(self, *arguments):
        computed.append(True)
        others.append(threading.Thread(target=frozen, args=(Boundary(tmp_path, SPEC, 4), oxford, photos, images)))
        others[-1].start()
        others[-1].join(0.5)
        assert others[-1].is_alive()
        return compute(self, *arguments)

    monkeypatch.setattr(Boundary, "_compute", beside)
    frozen(Boundary(tmp_path, SPEC, 4), oxford, photos, images)
    for other in others:
        other.join()
    assert computed == [True]


def test_who_lacks_nothing_waits_for_nobody(photos, oxford, tmp_path):
    boundary, images = Boundary(tmp_path, SPEC, 4), digests_of(photos, "red/0.png")
    frozen(boundary, oxford, photos, images)
    (path,) = tmp_path.glob("*.lock")
    with filelock.FileLock(path, is_singleton=False):
        other = threading.Thread(target=frozen, args=(Boundary(tmp_path, SPEC, 4), oxford, photos, images), daemon=True)
        other.start()
        other.join(10)
        assert not other.is_alive()


def test_what_frozen_layers_give_is_picked_by_image_and_view(photos, oxford, tmp_path):
    images = digests_of(photos, *(f"red/{number}.png" for number in range(4)))
    boundary = Boundary(tmp_path, SPEC, 4)
    every = frozen(boundary, oxford, photos, images)[:]
    picked = boundary.of([images["red/2.png"], images["red/0.png"]], 2)
    np.testing.assert_array_equal(picked[np.array([3, 0])], every[[1, 2 * SPEC.n_views]])


def test_before_the_first_block_images_are_kept(photos, oxford, tmp_path):
    listing = list_images(photos)
    loaded = {image.path: image.views for image in load_images(listing, range(len(listing)), SPEC, 1)}
    assert len(loaded) > AT_ONCE
    rows = frozen(Boundary(tmp_path, SPEC, 0), oxford, photos, digests_of(photos, *loaded))[:]
    assert rows.dtype == np.uint8
    expected = np.concatenate([np.stack(views) for views in loaded.values()])
    np.testing.assert_array_equal(rows, expected.transpose(0, 3, 1, 2))


def test_activations_beyond_float16_are_an_error(photos, oxford, tmp_path):
    class Huge:
        spec, batch_size, on_gpu = ExtractSpec(size=32, blocks=(4,), pools=("flat",)), 16, False

        def __call__(self, images):
            return {"block4_flat": np.full((len(images), 2048), 1e6, np.float32)}

    images = digests_of(photos, "red/0.png")
    with pytest.raises(DataError, match="block 4 leaves the range of float16; unfreeze an earlier block"):
        Boundary(tmp_path, SPEC, 4).fill(lambda spec: Huge(), images, 1, photos, 1, progress=False)
