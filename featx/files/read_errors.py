"""Tell why a file cannot be read: is it damaged, or is it only that it cannot be read now?

A file is damaged if its bytes were read and are wrong. Only a damaged file may be made again. A file that is locked by
another program, that the user may not read, or whose disk fails may be whole. Nothing is removed or replaced because of
it: the user solves the problem, and runs the same command again.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from featx.errors import (
    FeatxError,
    FileUnreadable,
    ModelError,
    ModelUnreadable,
    StoreError,
    StoreLocked,
    StoreUnreadable,
    WeightsError,
    WeightsUnreadable,
)

READ_ERRORS = (OSError, RuntimeError, KeyError, ValueError, AttributeError, TypeError, IndexError)
"""The errors that h5py can raise if a file cannot be read, is damaged or has an unexpected layout."""
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What ``flock`` returns on a disk that has no locks, such as some network disks."""
READ_BYTES = 1 << 24
_SHARING_VIOLATIONS = {32, 33}
"""Errors of Windows for a file that another program has open or has locked."""
_WRONG_CONTENT = {errno.EINVAL, errno.EOVERFLOW, errno.EFBIG, errno.EISDIR}
"""What the system returns if a program follows a wrong address in a damaged file, or if the file is a folder."""
_LOCKED = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EBUSY, errno.ETXTBSY}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_GONE = {errno.ENOENT, errno.ENOTDIR}
_TOO_MANY_FILES = {errno.EMFILE, errno.ENFILE}
_ERRNO = re.compile(r"(?:\berrno = |\bos error |\[Errno )(\d+)")
"""How HDF5, Rust and Python state the number of an error of the system in a message."""
_LOCKING_FAILED = "unable to lock file"
_MARKED_OPEN = "file is already open for"
"""What HDF5 says of a file whose header states that a program writes it."""


class ReadProblem(Enum):
    """Why a file cannot be read."""

    DAMAGED = "its bytes were read, and they are wrong"
    LOCKED = "another program has locked it"
    FORBIDDEN = "the user may not read it"
    FAILING = "the disk, its connection or a limit of the system prevents it"
    GONE = "it does not exist any more"


def find_problem(error: BaseException) -> ReadProblem:
    """Find out from an error why a file cannot be read.

    The number of the system's error decides. Libraries may state it only in their message, or in the error that caused
    theirs. An error without such a number means that the bytes of the file are wrong.
    """
    if isinstance(error, FileUnreadable):
        return ReadProblem.LOCKED if isinstance(error, BlockingIOError) else ReadProblem.FAILING
    number, text = _system_error(error), str(error)
    if getattr(error, "winerror", None) in _SHARING_VIOLATIONS or _MARKED_OPEN in text:
        return ReadProblem.LOCKED
    if number is None or number in _WRONG_CONTENT:
        return ReadProblem.DAMAGED
    # Some systems report EACCES instead of EAGAIN for a lock that another program has.
    if number in _LOCKED or (_LOCKING_FAILED in text and number in _FORBIDDEN):
        return ReadProblem.LOCKED
    if number in _FORBIDDEN:
        return ReadProblem.FORBIDDEN
    return ReadProblem.GONE if number in _GONE else ReadProblem.FAILING


def disk_has_no_locks(error: BaseException) -> bool:
    """Return whether HDF5 could not open a file because its disk has no locks."""
    return _LOCKING_FAILED in str(error) and _system_error(error) in NO_LOCKS


def unreadable_error(path: str | Path, error: BaseException, kind: type[FeatxError]) -> FeatxError | None:
    """Make the error to raise if a file cannot be read now.

    Parameters
    ----------
    path : str or Path
        The file, which the message names.
    error : Exception
        The error that reading the file raised.
    kind : type of FeatxError
        The error class of such files, such as ``StoreError``.

    Returns
    -------
    FeatxError or None
        An error of the class ``kind`` or of a subclass, whose message says what to do; None if the file is damaged. It
        is `featx.errors.FileUnreadable` too if ``kind`` is the class of stores, weights or models.
    """
    if isinstance(error, FileUnreadable):
        return error
    problem = find_problem(error)
    if problem is ReadProblem.DAMAGED:
        return None
    if problem is ReadProblem.LOCKED and kind is StoreError:
        return StoreLocked(_describe(path, problem, error))
    unreadable = {StoreError: StoreUnreadable, WeightsError: WeightsUnreadable, ModelError: ModelUnreadable}
    return unreadable.get(kind, kind)(_describe(path, problem, error))


@contextmanager
def wrap_read_errors(
    path: str | Path, kind: type[FeatxError], damaged: Callable[[Exception], FeatxError]
) -> Iterator[None]:
    """Raise the errors of featx instead of those that reading a file raises in a ``with`` block.

    Parameters
    ----------
    path : str or Path
        The file, which the message names.
    kind : type of FeatxError
        The class of the error if the file cannot be read now; see `unreadable_error`.
    damaged : callable
        Takes the error that was raised, and makes the error to raise instead if the file is damaged.

    Raises
    ------
    FeatxError
        Errors of featx are not changed.
    """
    try:
        yield
    except FeatxError:
        raise
    except READ_ERRORS as error:
        raise unreadable_error(path, error, kind) or damaged(error) from error


def check_bytes(path: Path, kind: type[FeatxError]) -> None:
    """Read all bytes of a file, to confirm that it is damaged and not just impossible to read now.

    Libraries may not say that the disk has failed. A file that does not exist is no error.

    Raises
    ------
    FeatxError
        If the bytes cannot be read; see `unreadable_error`.
    """
    try:
        with path.open("rb") as file:
            while file.read(READ_BYTES):
                pass
    except FileNotFoundError:
        return
    except OSError as error:
        raise unreadable_error(path, error, kind) or kind(
            f"{path} cannot be read: {error.strerror or error}"
        ) from error


def check_readable(path: Path, kind: type[FeatxError]) -> None:
    """Read the first bytes of a file; raise the error of `unreadable_error` if that fails.

    Call this before a file is said to have the wrong format: libraries say the same of a file that cannot be opened.
    """
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise unreadable_error(path, error, kind) or kind(
            f"{path} cannot be read: {error.strerror or error}"
        ) from error


def _system_error(error: BaseException | None) -> int | None:
    """Return the number of the system's error that an error states or was caused by."""
    while error is not None:
        number = getattr(error, "errno", None)
        if isinstance(number, int):
            return number
        if stated := _ERRNO.search(str(error)):
            return int(stated[1])
        error = error.__cause__
    return None


def _describe(path: str | Path, problem: ReadProblem, error: BaseException) -> str:
    number = _system_error(error)
    reason = os.strerror(number) if number is not None else str(error)
    if problem is ReadProblem.LOCKED:
        if _MARKED_OPEN in str(error):
            return (
                f"{path} is marked as open for writing: close the program that writes it, or, if a program was killed "
                f"while it wrote, check the file and remove the mark with: h5clear --status {path}"
            )
        return f"{path} is locked by another program: close it, or set HDF5_USE_FILE_LOCKING=FALSE"
    if problem is ReadProblem.FORBIDDEN:
        return f"{path} cannot be read ({reason}): allow it for this user"
    if problem is ReadProblem.GONE:
        return f"{path} cannot be read ({reason}): it has been moved or removed, or its disk is not there"
    if number in _TOO_MANY_FILES:
        return f"{path} cannot be read ({reason}): raise the limit with ulimit -n"
    if disk_has_no_locks(error):
        return f"{path} cannot be locked, because its disk has no locks ({reason}): set HDF5_USE_FILE_LOCKING=FALSE"
    return f"{path} cannot be read ({reason}): its disk or connection fails, try again when it works"
