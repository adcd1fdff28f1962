"""Decoding in a process of its own: it can be ended without ending the run, and shares no interpreter's lock with it.

Parent and child talk through pipes: a line of JSON and the bytes that it counts, in each direction. Nothing is pickled,
and the child is started anew rather than forked, so that a program needs no guard around its main part.
"""

import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np

from featx.errors import EngineError, ImageError, SpecError
from featx.files import DECODE_TIMEOUT
from featx.images.decoding.decoder import PreparedImage, prepare_image
from featx.images.decoding.memory_budget import pixel_budget
from featx.spec import ExtractSpec

BYTES_A_PIXEL, REST = 16, 1 << 30
"""Memory of a child: so much a pixel that is allowed, beside what the program takes."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""numpy's library would start a thread a core, whose stacks count as memory; a child multiplies nothing."""
SHOWN = 200


def decode_timeout() -> float | None:
    """Seconds for one image by the environment; None if it says none, ``SpecError`` if it is no number above 0."""
    text = os.environ.get(DECODE_TIMEOUT, "")
    try:
        seconds = float(text) if text else None
    except ValueError:
        seconds = 0
    if seconds is not None and not 0 < seconds < math.inf:
        raise SpecError(f"{DECODE_TIMEOUT} must be a number of seconds above 0, got {text!r}")
    return seconds


class _Died(Exception):
    """A process has gone: with which code, and its last words."""


class DecodeProcess:
    """A process that decodes one image at a time; each that takes longer than so many seconds, if any, is given up.

    It is started with its first image, and again after one that ended it. It may be used by one thread at a time.
    """

    def __init__(self, spec: ExtractSpec, max_pixels: int, seconds: float | None = None) -> None:
        self._settings = json.dumps({"spec": spec.to_json(), "max_pixels": max_pixels})
        self._shape, self._seconds = (spec.size, spec.size, 3), seconds
        self._child: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] = TemporaryFile()  # noqa: SIM115 - closed in close

    def __call__(self, data: bytes, digest: str) -> PreparedImage:
        """As `prepare_image`; ``ImageError`` also if the process did not end in time, or died twice."""
        try:
            answer, pixels = self._decoded(data, digest)
        except _Died:
            # It may have been none of this image's doing: a system that lacks memory ends processes that are idle, too.
            try:
                answer, pixels = self._decoded(data, digest)
            except _Died as died:
                raise ImageError(f"ended the process that decoded it, with code {died}") from died
        if "reason" in answer:
            raise ImageError(answer["reason"])
        views = np.frombuffer(pixels, np.uint8).reshape(-1, *self._shape)
        return PreparedImage(tuple(views), answer["exif_rotated"], tuple(answer["seconds"]))

    def _decoded(self, data: bytes, digest: str) -> tuple[dict[str, Any], bytes]:
        """What the process answers to an image; `_Died` if it has gone."""
        child = self._child = self._child or self._start()
        self._forget_words()
        late = threading.Event()
        try:
            answer = self._answer(child, late, data, digest)
        except (OSError, ValueError) as error:
            code = self._end(child)
            if late.is_set():
                raise ImageError(f"not decoded in {self._seconds:g} seconds (--decode-timeout)") from error
            raise _Died(f"{code}{self._last_words()}") from error
        if late.is_set():  # It was ended just after it had answered.
            self._end(child)
        return answer

    def _answer(
        self, child: "subprocess.Popen[bytes]", late: threading.Event, data: bytes, digest: str
    ) -> tuple[dict[str, Any], bytes]:
        with self._ending(child, late):
            _send(child.stdin, {"digest": digest}, data)
            answer, pixels = _receive(child.stdout)
        if "room" not in answer:
            return answer, pixels
        # Of this process, which all decoders share; waiting for it is none of the image's time.
        with pixel_budget.acquire(answer["room"]), self._ending(child, late):
            _send(child.stdin, {}, b"")
            return _receive(child.stdout)

    def close(self) -> None:
        """End the process."""
        if self._child:
            self._end(self._child)
        self._said.close()

    @contextmanager
    def _ending(self, child: "subprocess.Popen[bytes]", late: threading.Event) -> Iterator[None]:
        """Kill a process that is not done with the block in time, and set ``late``."""
        if self._seconds is None:
            yield
            return

        def end() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(self._seconds, end)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def _end(self, child: "subprocess.Popen[bytes]") -> int:
        """End a process, close its pipes, and give the code that it ended with."""
        child.kill()
        child.communicate()
        self._child = None
        return child.returncode

    def _start(self) -> "subprocess.Popen[bytes]":
        # Not -m, which imports from the current folder first: that may be a stranger's.
        program = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            "from featx.images.decoding.decode_process import serve; serve(sys.argv[1])"
        )
        command = [sys.executable, "-P", "-c", program, self._settings]
        self._forget_words()
        pipe, environment = subprocess.PIPE, os.environ | ONE_THREAD
        # In a session of its own: Ctrl-C is for the parent.
        child = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self._said, start_new_session=True, env=environment
        )
        try:
            # Its own imports are no image's time.
            _receive(child.stdout)
        except ValueError as error:
            code = self._end(child)
            raise EngineError(
                f"a process to decode images in ended at its start, with code {code}{self._last_words()}; "
                "if it lacked memory, give fewer --workers"
            ) from error
        return child

    def _forget_words(self) -> None:
        # Parent and child write at one place of the file, which is moved while the child waits.
        self._said.seek(0)
        self._said.truncate()

    def _last_words(self) -> str:
        self._said.seek(0)
        words = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return f": {words[-1][:SHOWN]}" if words else ""


def _send(pipe: IO[bytes] | None, head: dict[str, Any], data: bytes) -> None:
    assert pipe is not None
    pipe.write(json.dumps({**head, "bytes": len(data)}).encode() + b"\n")
    pipe.write(data)
    pipe.flush()


def _receive(pipe: IO[bytes] | None) -> tuple[dict[str, Any], bytes]:
    """A head and its bytes; ``ValueError`` if the other end has gone."""
    assert pipe is not None
    head: dict[str, Any] = json.loads(pipe.readline())
    data = pipe.read(head["bytes"])
    if len(data) < head["bytes"]:
        raise ValueError("the other end has gone")
    return head, data


def _bound_memory(max_pixels: int) -> None:
    """Bound what this process may take, where the platform can."""
    try:
        import resource
    except ImportError:
        return
    limit = REST + BYTES_A_PIXEL * max_pixels
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard == resource.RLIM_INFINITY or hard > limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


class _ParentBudget:
    """The room of the process that is served, which many others share: it is asked for, and free with the answer."""

    @contextmanager
    def acquire(self, pixels: int) -> Iterator[None]:
        """Wait until the parent has room for so many pixels."""
        _send(sys.stdout.buffer, {"room": pixels}, b"")
        _receive(sys.stdin.buffer)
        yield


def serve(settings: str) -> None:
    """What the process does: decode what it is sent until its input ends."""
    values = json.loads(settings)
    spec, max_pixels = ExtractSpec.from_json(values["spec"]), values["max_pixels"]
    _bound_memory(max_pixels)
    inward, outward = sys.stdin.buffer, sys.stdout.buffer
    _send(outward, {}, b"")
    while line := inward.readline():
        head = json.loads(line)
        try:
            found = prepare_image(inward.read(head["bytes"]), head["digest"], spec, max_pixels, _ParentBudget())
        except ImageError as error:
            _send(outward, {"reason": str(error)}, b"")
        else:
            _send(
                outward, {"exif_rotated": found.exif_rotated, "seconds": found.seconds}, np.stack(found.views).tobytes()
            )
