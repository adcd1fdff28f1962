"""The cache of activations: the frozen layers run once per image and augmented copy, whoever asks."""

import dataclasses
import hashlib
import re
import threading

import filelock
import numpy as np
import pytest
from conftest import FINETUNE_SPEC as SPEC
from conftest import fill

from featx.engines import make_engine
from featx.errors import DataError, ModelError
from featx.finetuning.activation_cache import IMAGES_PER_WRITE, ActivationCache
from featx.images import list_images, load_images
from featx.runtime import Compute
from featx.spec import ExtractSpec

ONE_WORKER = Compute(workers=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of images."""
    folder = tmp_path_factory.mktemp("activations")
    fill(folder, each=6)
    return folder


class Stop(Exception):
    """Stands for a kill."""


def digests_of(photos, *names):
    return {name: hashlib.sha256((photos / name).read_bytes()).hexdigest() for name in names}


def red(photos, count):
    return digests_of(photos, *(f"red/{number}.png" for number in range(count)))


@pytest.fixture
def fill_and_select(oxford):
    """Compute the images that a cache lacks; return the rows of all images."""

    def run(cache, photos, images, n_views=SPEC.n_views):
        cache.fill(lambda spec: make_engine(oxford, spec, "cpu"), images, n_views, photos, ONE_WORKER)
        return cache.select(images.values(), n_views)

    return run


def test_a_stopped_computation_resumes_after_the_last_complete_image(photos, fill_and_select, tmp_path, monkeypatch):
    images = red(photos, 6)
    monkeypatch.setattr("featx.engines.streaming.PART_ROWS", 6)
    whole = fill_and_select(ActivationCache(tmp_path / "whole", SPEC, 4), photos, images)[:]
    stopped, compute_rows = ActivationCache(tmp_path / "stopped", SPEC, 4), ActivationCache._compute

    def compute_one_part_and_stop(self, *arguments):
        yield next(compute_rows(self, *arguments))
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(ActivationCache, "_compute", compute_one_part_and_stop)
        with pytest.raises(Stop):
            fill_and_select(stopped, photos, images)
    (index,) = (tmp_path / "stopped").glob("*.index")
    assert index.read_text().splitlines()[1:] == [f"{digest} 3" for digest in list(images.values())[:2]]
    # A process that is killed while it writes leaves rows without a line, and part of a line.
    with index.with_suffix(".activations").open("ab") as file:
        file.write(b"rows")
    with index.open("ab") as file:
        file.write(b"12ab")
    np.testing.assert_array_equal(fill_and_select(stopped, photos, images)[:], whole)
    assert index.read_text().splitlines()[1:] == [f"{digest} 3" for digest in images.values()]


@pytest.fixture
def computed(monkeypatch):
    """The images and the number of copies of each call that computes some."""
    calls, compute_rows = [], ActivationCache._compute

    def watched(self, make_engine, spec, pending, *arguments):
        calls.append((list(pending), spec.n_views))
        return compute_rows(self, make_engine, spec, pending, *arguments)

    monkeypatch.setattr(ActivationCache, "_compute", watched)
    return calls


def test_only_missing_images_and_copies_are_computed(photos, fill_and_select, tmp_path, computed):
    cache, images = ActivationCache(tmp_path, SPEC, 4), red(photos, 4)
    fill_and_select(cache, photos, dict(list(images.items())[:2]))
    plain = fill_and_select(cache, photos, dict(list(images.items())[2:]), 1)[:]
    rows = fill_and_select(cache, photos, images)
    # The last two images had only their plain copy, so all of their copies are computed.
    assert computed == [(["red/0.png", "red/1.png"], 3), (["red/2.png", "red/3.png"], 1),
                        (["red/2.png", "red/3.png"], 3)]  # fmt: skip
    np.testing.assert_allclose(rows[np.array([6, 9])], plain, rtol=2e-3, atol=1e-3)


def test_images_are_found_by_their_content_and_the_spec(photos, fill_and_select, tmp_path, computed):
    images = red(photos, 4)
    rows = fill_and_select(ActivationCache(tmp_path, SPEC, 4), photos, images)
    moved = {"elsewhere/0.png": images["red/3.png"]}
    moved_rows = fill_and_select(ActivationCache(tmp_path, SPEC, 4), photos, moved)
    np.testing.assert_array_equal(moved_rows[:], rows[np.arange(9, 12)])
    other_features = dataclasses.replace(SPEC, blocks=(5,), pools=("max",))
    fill_and_select(ActivationCache(tmp_path, other_features, 4), photos, images)
    assert len(computed) == 1
    fill_and_select(ActivationCache(tmp_path, dataclasses.replace(SPEC, view_seed=7), 4), photos, images)
    assert computed[1:] == [(list(images), 3)]
    assert len(list(tmp_path.glob("*.activations"))) == 2


def test_an_incomplete_copy_of_a_cache_is_completed(photos, fill_and_select, tmp_path):
    cache, images = ActivationCache(tmp_path, SPEC, 4), red(photos, 4)
    rows = fill_and_select(cache, photos, images)[:].copy()
    (path,) = tmp_path.glob("*.activations")
    path.write_bytes(path.read_bytes()[:-1])
    assert list(cache._read_index().missing(images, SPEC.n_views)) == ["red/3.png"]
    np.testing.assert_allclose(fill_and_select(cache, photos, images)[:], rows, rtol=2e-3, atol=1e-3)


def test_equal_images_are_computed_once(photos, fill_and_select, tmp_path):
    copies = tmp_path / "photos"
    copies.mkdir()
    for name in ("one.png", "other.png"):
        (copies / name).write_bytes((photos / "red" / "0.png").read_bytes())
    images = digests_of(copies, "one.png", "other.png")
    rows = fill_and_select(ActivationCache(tmp_path, SPEC, 4), copies, images)
    assert len(rows.values) == SPEC.n_views
    np.testing.assert_array_equal(rows[:3], rows[3:])


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (b"featx activations 2\n", "is not the index of an activation cache that this version of featx can read; rem"),
        (b"\x00\xff\n", "is not the index of an activation cache that this version of featx can read; remove it"),
        (b"featx activations 1\nabc 3\n", "is damaged at b'abc 3\\n'; remove it"),
        (b"featx activations 1\n\x00\xff\n", "is damaged at"),
    ],
)
def test_a_damaged_index_is_refused(photos, fill_and_select, tmp_path, index, message):
    cache, images = ActivationCache(tmp_path, SPEC, 4), red(photos, 1)
    fill_and_select(cache, photos, images)
    (path,) = tmp_path.glob("*.index")
    path.write_bytes(index)
    with pytest.raises(ModelError, match=re.escape(message)):
        fill_and_select(cache, photos, images)


@pytest.mark.parametrize("text", [b"", b"featx act", b"featx activations 1\n", b"featx activations 1\n12ab"])
def test_an_index_that_a_killed_process_left_is_written_again(photos, fill_and_select, tmp_path, text):
    cache, images = ActivationCache(tmp_path, SPEC, 4), red(photos, 1)
    fill_and_select(cache, photos, images)
    (path,) = tmp_path.glob("*.index")
    whole = path.read_bytes()
    path.write_bytes(text)
    fill_and_select(cache, photos, images)
    assert path.read_bytes() == whole


def test_a_changed_image_is_refused(photos, fill_and_select, tmp_path):
    with pytest.raises(DataError, match=r"red/0\.png has changed since the store was made; update the store by extr"):
        fill_and_select(ActivationCache(tmp_path, SPEC, 4), photos, {"red/0.png": "of other bytes"})


def test_a_process_waits_for_another_that_fills_the_cache(photos, fill_and_select, tmp_path, monkeypatch):
    images, compute_rows, calls, threads = red(photos, 1), ActivationCache._compute, [], []

    def start_another(self, *arguments):
        calls.append(True)
        threads.append(
            threading.Thread(target=fill_and_select, args=(ActivationCache(tmp_path, SPEC, 4), photos, images))
        )
        threads[-1].start()
        threads[-1].join(0.5)
        assert threads[-1].is_alive()
        return compute_rows(self, *arguments)

    monkeypatch.setattr(ActivationCache, "_compute", start_another)
    fill_and_select(ActivationCache(tmp_path, SPEC, 4), photos, images)
    for thread in threads:
        thread.join()
    assert calls == [True]


def test_a_process_that_lacks_nothing_does_not_wait(photos, fill_and_select, tmp_path):
    images = red(photos, 1)
    fill_and_select(ActivationCache(tmp_path, SPEC, 4), photos, images)
    (path,) = tmp_path.glob("*.lock")
    arguments = (ActivationCache(tmp_path, SPEC, 4), photos, images)
    with filelock.FileLock(path, is_singleton=False):
        thread = threading.Thread(target=fill_and_select, args=arguments, daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()


def test_rows_are_selected_by_image_and_copy(photos, fill_and_select, tmp_path):
    cache, images = ActivationCache(tmp_path, SPEC, 4), red(photos, 4)
    rows = fill_and_select(cache, photos, images)[:]
    selected = cache.select([images["red/2.png"], images["red/0.png"]], 2)
    np.testing.assert_array_equal(selected[np.array([3, 0])], rows[[1, 2 * SPEC.n_views]])


def test_block_0_keeps_the_images_as_bytes(photos, fill_and_select, tmp_path):
    listing = list_images(photos)
    loaded = {image.path: image.views for image in load_images(listing, range(len(listing)), SPEC, 1)}
    assert len(loaded) > IMAGES_PER_WRITE
    rows = fill_and_select(ActivationCache(tmp_path, SPEC, 0), photos, digests_of(photos, *loaded))[:]
    assert rows.dtype == np.uint8
    expected = np.concatenate([np.stack(views) for views in loaded.values()])
    np.testing.assert_array_equal(rows, expected.transpose(0, 3, 1, 2))


def test_activations_beyond_the_range_of_float16_are_an_error(photos, tmp_path):
    class HugeEngine:
        spec, batch_size, on_gpu = ExtractSpec(size=32, blocks=(4,), pools=("flat",)), 16, False

        def __call__(self, images):
            return {"block4_flat": np.full((len(images), 2048), 1e6, np.float32)}

    with pytest.raises(DataError, match="the output of block 4 exceeds the range of float16; --unfreeze an earlier"):
        ActivationCache(tmp_path, SPEC, 4).fill(lambda spec: HugeEngine(), red(photos, 1), 1, photos, ONE_WORKER)
