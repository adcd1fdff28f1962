"""Decoding in child processes: the same pixels, and a failure of one image if it takes too long or kills its child."""

import contextlib
import dataclasses
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import draw

from featx.cli.group import main
from featx.engines import streaming
from featx.errors import EngineError, ImageError, SpecError
from featx.files.limits import DECODE_TIMEOUT
from featx.images.decoding.decode_process import DecodeProcess
from featx.images.decoding.decoder import prepare_image
from featx.images.decoding.memory_budget import MAX_PIXELS, PixelBudget
from featx.images.loading import load_images
from featx.images.sources.any_source import list_images
from featx.spec.extract_spec import ExtractSpec

SPEC = ExtractSpec(size=32, n_views=2, augment="flip")
DIGEST = "0" * 64
SLOW = b"P3 3000 2000 255\n" + b"1 " * 18_000_000
"""An image that Pillow decodes in five seconds or more."""


def png() -> bytes:
    data = io.BytesIO()
    draw(0, 0).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def decoder() -> Iterator[DecodeProcess]:
    made = DecodeProcess(SPEC, MAX_PIXELS, 60)
    yield made
    made.close()


def children() -> list[str]:
    """List the decoding children of this process; where there is no /proc, as if there was one."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    if not tasks.is_dir():
        return ["unknown"]
    found = []
    for task in tasks.iterdir():
        # Threads of earlier tests, and their children, may end meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for pid in (task / "children").read_text().split():
                if b"featx.images.decoding.decode_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
    return found


def test_threads_and_processes_load_the_same_pixels(
    shared_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [*sorted(map(str, shared_photos.rglob("*.png"))), str(tmp_path / "bad.png"), str(tmp_path / "missing.png")]
    (tmp_path / "bad.png").write_bytes(png()[:100])
    listing = list_images(paths)
    rows = range(len(paths))
    here = list(load_images(listing, rows, SPEC, 2))
    monkeypatch.setenv(DECODE_TIMEOUT, "60")
    images = load_images(listing, rows, SPEC, 2)
    there = [next(images)]
    assert children()
    there += images
    for one, other in zip(here, there, strict=True):
        assert (one.path, one.digest, one.reason, one.exif_rotated) == (
            other.path,
            other.digest,
            other.reason,
            other.exif_rotated,
        )
        assert np.array_equal(one.views, other.views)
    assert here[-2].reason.startswith("cut short: PNG")
    assert "No such file" in here[-1].reason


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
@pytest.mark.parametrize(("on_gpu", "many", "frozen", "started"), [
    (True, 6, False, True), (True, 7, False, False), (False, 6, False, False), (True, 6, True, False),
])  # fmt: skip
def test_many_images_are_decoded_in_processes_beside_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_gpu: bool, many: int, frozen: bool, started: bool
) -> None:
    class Means:
        spec, batch_size = dataclasses.replace(SPEC, blocks=(1,)), 2

        def __init__(self) -> None:
            self.on_gpu, self.beside = on_gpu, list[str]()

        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            self.beside += children()
            return {"block1_avg": np.repeat(images.mean((1, 2, 3), keepdims=True)[:, 0, 0], 64, 1).astype("f4")}

    for number in range(6):
        draw(0, number).save(tmp_path / f"{number}.png")
    listing, rows = list_images(tmp_path), range(6)
    monkeypatch.setattr(streaming, "MIN_IMAGES_FOR_PROCESSES", many)
    if frozen:
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    engine = Means()
    (part,) = streaming.feature_parts(engine, listing, rows, 2)
    assert bool(engine.beside) == started
    assert not children()
    expected = [views.mean((1, 2, 3)) for views in (np.stack(one.views) for one in load_images(listing, rows, SPEC, 1))]
    np.testing.assert_allclose(part.features["block1_avg"][:, 0], np.concatenate(expected), rtol=1e-6)


def test_an_image_that_takes_too_long_fails_and_the_next_is_decoded(decoder: DecodeProcess) -> None:
    decoder(png(), DIGEST)
    child, decoder._seconds = decoder._child, 0.5
    began = time.monotonic()
    with pytest.raises(ImageError, match=r"^not decoded in 0\.5 seconds \(--decode-timeout\)$"):
        decoder(SLOW, DIGEST)
    assert time.monotonic() - began < 5
    assert child is not None
    assert child.returncode is not None
    decoder._seconds = 60
    assert np.array_equal(decoder(png(), DIGEST).views, prepare_image(png(), DIGEST, SPEC).views)


def kill(decoder: DecodeProcess, times: int) -> None:
    """Kill children of a decoder one after the other, each half a second after its start."""
    child = None
    for _ in range(times):
        while decoder._child in (None, child):
            time.sleep(0.01)
        child = decoder._child
        assert child is not None
        time.sleep(0.5)
        decoder._stderr.write(b"Killed by hand\n")
        decoder._stderr.flush()
        os.kill(child.pid, signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_an_image_that_kills_two_children_fails_alone(decoder: DecodeProcess) -> None:
    killer = threading.Thread(target=kill, args=(decoder, 2))
    killer.start()
    with pytest.raises(ImageError, match=r"^ended the process that decoded it, with code -9: Killed by hand$"):
        decoder(SLOW, DIGEST)
    killer.join()
    assert len(decoder(png(), DIGEST).views) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_an_image_is_decoded_again_after_its_child_was_killed_once(decoder: DecodeProcess) -> None:
    """A system that runs out of memory may kill idle processes."""
    decoder(png(), DIGEST)
    assert decoder._child is not None
    os.kill(decoder._child.pid, signal.SIGKILL)
    assert np.array_equal(decoder(png(), DIGEST).views, prepare_image(png(), DIGEST, SPEC).views)


def test_children_share_the_pixel_budget_of_their_parent(
    decoder: DecodeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget, prepared = PixelBudget(MAX_PIXELS), []
    monkeypatch.setattr("featx.images.decoding.decode_process.pixel_budget", budget)
    decoder._seconds = 1
    thread = threading.Thread(target=lambda: prepared.append(decoder(png(), DIGEST)))
    with budget.acquire(MAX_PIXELS):
        thread.start()
        time.sleep(2)
        assert not prepared  # It waits longer than its time limit, which does not count waiting.
    thread.join()
    assert np.array_equal(prepared[0].views, prepare_image(png(), DIGEST, SPEC).views)
    with budget.acquire(MAX_PIXELS):  # It was released again.
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can limit memory")
def test_memory_is_limited() -> None:
    code = (
        "from featx.images.decoding import decode_process; decode_process.BASE_BYTES = 1 << 29; "
        "decode_process._limit_memory(1); bytes(1 << 30)"
    )
    limited = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert limited.stderr.endswith("MemoryError\n")


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_a_child_has_one_thread(decoder: DecodeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    decoder(png(), DIGEST)
    assert decoder._child is not None
    assert len(list(Path(f"/proc/{decoder._child.pid}/task").iterdir())) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no /bin/false")
def test_a_child_that_does_not_start_ends_the_run(decoder: DecodeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(
        EngineError, match=r"a process that decodes images ended at its start, with code 1; .*--workers"
    ):
        decoder(png(), DIGEST)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "inf", "nan"])
def test_an_invalid_time_limit_is_refused(monkeypatch: pytest.MonkeyPatch, shared_photos: Path, text: str) -> None:
    monkeypatch.setenv(DECODE_TIMEOUT, text)
    with pytest.raises(SpecError, match=rf"^FEATX_DECODE_TIMEOUT must be a number of seconds above 0, got '{text}'$"):
        next(load_images(list_images(shared_photos), [0], SPEC, 1))


def test_the_option_decode_timeout_limits_each_image_of_a_command(tmp_path: Path, oxford: object) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "slow.ppm").write_bytes(SLOW)
    draw(0, 0).save(tmp_path / "images" / "good.png")
    command = ["extract", str(tmp_path / "images"), "-o", str(tmp_path / "s.h5"), "--size", "32", "--blocks", "1"]
    result = CliRunner().invoke(main, [*command, "--decode-timeout", "2"])
    assert result.exit_code == 3, result.output
    assert "slow.ppm: not decoded in 2 seconds (--decode-timeout)" in result.output
    assert not os.environ.get(DECODE_TIMEOUT)
    assert CliRunner().invoke(main, [*command, "--decode-timeout", "0"]).exit_code == 2
    assert CliRunner().invoke(main, [*command, "--decode-timeout", "inf"]).exit_code == 2


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_children_end_with_the_loader(shared_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DECODE_TIMEOUT, "60")
    listing = list_images(shared_photos)
    images = load_images(listing, range(len(listing)), SPEC, 2)
    next(images)
    assert children()
    images.close()
    assert not children()


def test_a_child_imports_nothing_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("numpy.py", "json.py", "featx.py"):
        (tmp_path / name).write_text("open('harmed', 'w').close()")
    monkeypatch.chdir(tmp_path)
    decoder = DecodeProcess(SPEC, MAX_PIXELS, 60)
    assert decoder(png(), DIGEST).views
    decoder.close()
    assert not (tmp_path / "harmed").exists()
