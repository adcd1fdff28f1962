"""Decode images in a child process, which has its own interpreter lock and can be killed without ending the run.

Parent and child send each other messages through pipes. A message is a line of JSON followed by bytes; the line says
how many bytes follow. Nothing is pickled. The child is started as a new program and does not import the main module. So
programs that use featx need no ``if __name__ == "__main__"``.
"""

import json
import math
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np

from featx.errors import EngineError, ImageError, SpecError
from featx.files import DECODE_TIMEOUT
from featx.images.decoding.decoder import PreparedImage, prepare_image
from featx.images.decoding.formats import register_plugins, registered_plugins
from featx.images.decoding.memory_budget import pixel_budget
from featx.images.pixels.sample_values import PixelRemark
from featx.spec import ExtractSpec

BYTES_PER_PIXEL, BASE_BYTES = 16, 1 << 30
"""The memory limit of a child is the sum of two parts: bytes per allowed pixel, and bytes for the program itself."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""Environment variables of a child. By default numpy starts one thread per core for products of matrices. A child
computes no such products, and its memory limit would include the stacks of these threads."""
SHOWN_CHARACTERS = 200


def decode_timeout() -> float | None:
    """Return the limit, in seconds, that an environment variable sets on decoding one image; None means no limit.

    Raises
    ------
    SpecError
        If the environment variable is not a number above 0.
    """
    text = os.environ.get(DECODE_TIMEOUT, "")
    try:
        seconds = float(text) if text else None
    except ValueError:
        seconds = 0
    if seconds is not None and not 0 < seconds < math.inf:
        raise SpecError(f"{DECODE_TIMEOUT} must be a number of seconds above 0, got {text!r}")
    return seconds


class _ChildDied(Exception):
    """Raised if the child has ended; the message has its exit code and the last line of its standard error."""


class DecodeProcess:
    """A child process that decodes one image at a time; only one thread at a time may use it.

    The child is started when the first image arrives. If an image ends the child, the next image starts a new one.

    Parameters
    ----------
    spec : ExtractSpec
        Which copies of each image to make.
    max_pixels : int
        As in `featx.images.decode`. It also limits the memory of the child, on platforms that can do this.
    seconds : float, optional
        Kill the child if it takes longer than this for one image.
    """

    def __init__(self, spec: ExtractSpec, max_pixels: int, seconds: float | None = None) -> None:
        self._settings = json.dumps({"spec": spec.to_json(), "max_pixels": max_pixels, "plugins": registered_plugins()})
        self._shape, self._seconds = (spec.size, spec.size, 3), seconds
        self._child: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] = TemporaryFile()  # noqa: SIM115 - closed in close

    def __call__(self, data: bytes, digest: str) -> PreparedImage:
        """Prepare an image in the same way as `prepare_image`.

        Raises
        ------
        ImageError
            If the image cannot be decoded, takes too long, or ends two children.
        EngineError
            If a child cannot be started.
        """
        try:
            answer, pixels = self._decode(data, digest)
        except _ChildDied:
            # Try again, because this image may not be the cause. A system that runs out of memory also kills idle
            # processes.
            try:
                answer, pixels = self._decode(data, digest)
            except _ChildDied as died:
                raise ImageError(f"ended the process that decoded it, with code {died}") from died
        if "reason" in answer:
            raise ImageError(answer["reason"])
        views = np.frombuffer(pixels, np.uint8).reshape(-1, *self._shape)
        remarks = PixelRemark(answer["remarks"])
        return PreparedImage(tuple(views), answer["exif_rotated"], remarks, tuple(answer["seconds"]))

    def close(self) -> None:
        """End the child."""
        if self._child:
            self._end(self._child)
        self._stderr.close()

    def _decode(self, data: bytes, digest: str) -> tuple[dict[str, Any], bytes]:
        """Send an image to the child and return its answer; raise `_ChildDied` if the child has ended."""
        child = self._child = self._child or self._start()
        self._clear_stderr()
        late = threading.Event()
        try:
            answer = self._exchange(child, late, data, digest)
        except (OSError, ValueError) as error:
            code = self._end(child)
            if late.is_set():
                raise ImageError(f"not decoded in {self._seconds:g} seconds (--decode-timeout)") from error
            raise _ChildDied(f"{code}{self._last_error_line()}") from error
        if late.is_set():  # The child was killed just after it had answered.
            self._end(child)
        return answer

    def _exchange(
        self, child: "subprocess.Popen[bytes]", late: threading.Event, data: bytes, digest: str
    ) -> tuple[dict[str, Any], bytes]:
        with self._kill_when_late(child, late):
            _send(child.stdin, {"digest": digest}, data)
            answer, pixels = _receive(child.stdout)
        if "acquire" not in answer:
            return answer, pixels
        # All children share the pixel budget of this process. Waiting for the budget does not count as decoding time.
        with pixel_budget.acquire(answer["acquire"]), self._kill_when_late(child, late):
            _send(child.stdin, {}, b"")
            return _receive(child.stdout)

    @contextmanager
    def _kill_when_late(self, child: "subprocess.Popen[bytes]", late: threading.Event) -> Iterator[None]:
        """Kill the child and set ``late`` if the block takes too long."""
        if self._seconds is None:
            yield
            return

        def kill() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(self._seconds, kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def _end(self, child: "subprocess.Popen[bytes]") -> int:
        """Kill the child, close its pipes, and return its exit code."""
        child.kill()
        child.communicate()
        self._child = None
        return child.returncode

    def _start(self) -> "subprocess.Popen[bytes]":
        # `python -m` is not used, because it would import modules from the current folder, which may hold a stranger's
        # files.
        program = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            "from featx.images.decoding.decode_process import serve; serve(sys.argv[1])"
        )
        command = [sys.executable, "-P", "-c", program, self._settings]
        self._clear_stderr()
        pipe, environment = subprocess.PIPE, os.environ | ONE_THREAD
        # The child gets its own session, so that Ctrl-C reaches only the parent.
        child = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self._stderr, start_new_session=True, env=environment
        )
        try:
            # Wait until the child has imported its modules: the imports do not count as decoding time.
            answer, _ = _receive(child.stdout)
        except ValueError as error:
            code = self._end(child)
            raise EngineError(
                f"a process that decodes images ended at its start, with code {code}{self._last_error_line()}; "
                "if there was too little memory, use fewer --workers"
            ) from error
        if answer["missing"]:
            warnings.warn(
                f"the processes that decode images cannot read {', '.join(answer['missing'])}: the Pillow plugin must "
                "be in a module that another process can import",
                stacklevel=2,
            )
        return child

    def _clear_stderr(self) -> None:
        # Parent and child share the position in this file. The parent changes the position only while the child waits.
        self._stderr.seek(0)
        self._stderr.truncate()

    def _last_error_line(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1][:SHOWN_CHARACTERS]}" if lines else ""


def _send(pipe: IO[bytes] | None, head: dict[str, Any], data: bytes) -> None:
    assert pipe is not None
    pipe.write(json.dumps({**head, "bytes": len(data)}).encode() + b"\n")
    pipe.write(data)
    pipe.flush()


def _receive(pipe: IO[bytes] | None) -> tuple[dict[str, Any], bytes]:
    """Read a message; ``ValueError`` if the other process has ended."""
    assert pipe is not None
    head: dict[str, Any] = json.loads(pipe.readline())
    data = pipe.read(head["bytes"])
    if len(data) < head["bytes"]:
        raise ValueError("the other process has ended")
    return head, data


def _limit_memory(max_pixels: int) -> None:
    """Limit the memory of this process, on platforms that can do this."""
    try:
        import resource
    except ImportError:
        return
    limit = BASE_BYTES + BYTES_PER_PIXEL * max_pixels
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard == resource.RLIM_INFINITY or hard > limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


class _ParentBudget:
    """The pixel budget of the parent process, as a child sees it.

    All children share this budget. The parent takes the pixels back when the child sends its answer.
    """

    @contextmanager
    def acquire(self, pixels: int) -> Iterator[None]:
        """Wait until ``pixels`` plain pixels of the parent's budget are free."""
        _send(sys.stdout.buffer, {"acquire": pixels}, b"")
        _receive(sys.stdin.buffer)
        yield


def serve(settings: str) -> None:
    """Run the child: decode images from standard input until the input ends."""
    values = json.loads(settings)
    spec, max_pixels = ExtractSpec.from_json(values["spec"]), values["max_pixels"]
    missing = register_plugins(values["plugins"])
    _limit_memory(max_pixels)
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    _send(stdout, {"missing": missing}, b"")
    while line := stdin.readline():
        head = json.loads(line)
        try:
            prepared = prepare_image(stdin.read(head["bytes"]), head["digest"], spec, max_pixels, _ParentBudget())
        except ImageError as error:
            _send(stdout, {"reason": str(error)}, b"")
        else:
            answer = {"exif_rotated": prepared.exif_rotated, "remarks": prepared.remarks, "seconds": prepared.seconds}
            _send(stdout, answer, np.stack(prepared.views).tobytes())
