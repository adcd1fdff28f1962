"""Decoding in a process that can be ended: the same pixels, and a recorded failure where it takes too long or dies."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import draw

from featx.errors import ImageError
from featx.images import MAX_PIXELS, list_images
from featx.images.loading import load_images
from featx.images.prepared import prepare_views
from featx.images.worker import Decoder
from featx.spec import ExtractSpec

SPEC = ExtractSpec(size=32, views=2, augment="flip")
DIGEST = "0" * 64
SLOW = b"P3 3000 2000 255\n" + b"1 " * 18_000_000
"""What takes Pillow five seconds and more."""


def png() -> bytes:
    data = io.BytesIO()
    draw(0, 0).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    made = Decoder(SPEC, MAX_PIXELS, 60)
    yield made
    made.close()


def test_threads_and_processes_load_the_same(shared_photos: Path, tmp_path: Path) -> None:
    paths = [*sorted(map(str, shared_photos.rglob("*.png"))), str(tmp_path / "bad.png"), str(tmp_path / "missing.png")]
    (tmp_path / "bad.png").write_bytes(png()[:100])
    listing = list_images(paths)
    rows = range(len(paths))
    here, there = (list(load_images(listing, rows, SPEC, 2, decode_timeout=seconds)) for seconds in (None, 60))
    for one, other in zip(here, there, strict=True):
        assert (one.path, one.digest, one.reason, one.turned) == (other.path, other.digest, other.reason, other.turned)
        assert np.array_equal(one.views, other.views)
    assert here[-2].reason.startswith("cut short: PNG")
    assert "No such file" in here[-1].reason


def test_an_image_that_takes_too_long_is_given_up_and_the_next_is_decoded(decoder: Decoder) -> None:
    decoder(png(), DIGEST)
    decoder._seconds = 0.5
    began = time.monotonic()
    with pytest.raises(ImageError, match=r"^not decoded in 0\.5 seconds \(--decode-timeout\)$"):
        decoder(SLOW, DIGEST)
    assert time.monotonic() - began < 5
    decoder._seconds = 60
    assert np.array_equal(decoder(png(), DIGEST).views, prepare_views(png(), DIGEST, SPEC).views)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
def test_a_process_that_dies_fails_its_image_alone(decoder: Decoder) -> None:
    decoder(png(), DIGEST)
    assert decoder._child is not None
    os.kill(decoder._child.pid, signal.SIGSEGV)
    with pytest.raises(ImageError, match=r"^ended the process that decoded it, with code -11$"):
        decoder(png(), DIGEST)
    assert len(decoder(png(), DIGEST).views) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded where the platform can")
def test_memory_is_bounded() -> None:
    bounded = subprocess.run(
        [sys.executable, "-c", "from featx.images import worker; worker.REST = 1 << 29; "
         "worker._bound_memory(1); bytes(1 << 30)"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert bounded.stderr.endswith("MemoryError\n")


def test_nothing_is_left_running(shared_photos: Path) -> None:
    listing = list_images(shared_photos)
    images = load_images(listing, range(len(listing)), SPEC, 2, decode_timeout=60)
    next(images)
    images.close()
    children = Path(f"/proc/{os.getpid()}/task")
    if children.is_dir():
        pids = [pid for task in children.iterdir() for pid in (task / "children").read_text().split()]
        assert not [pid for pid in pids if b"featx.images.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
