"""Threads and processes for tasks that are mostly matrix products."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

from joblib import cpu_count, parallel_config
from joblib.parallel import LokyBackend, get_active_backend
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from featx.errors import EngineError, SpecError

Task = TypeVar("Task")
Result = TypeVar("Result")
MAX_PARALLEL_VALUES = 1 << 27
"""Largest total size of the matrices of tasks that run at the same time: 0.5 GB in float32. Each task needs about four
copies of its matrix."""

ONE_THREAD_VALUES = 1 << 26
"""If a matrix has at most this many values, its product with a few columns is faster on one thread (measured)."""


def count_threads(n_jobs: int | None) -> int:
    """Return the number of threads that ``n_jobs`` means: None is 1, and -1 is all cores, as in scikit-learn.

    Raises
    ------
    SpecError
        If ``n_jobs`` is 0.
    """
    if n_jobs == 0:
        raise SpecError("n_jobs must not be 0; give a number of threads, or -1 for all cores")
    if n_jobs is None:
        return 1
    return n_jobs if n_jobs > 0 else max(1, cpu_count() + 1 + n_jobs)


def count_workers(tasks: int, values: int, most: int | None = None) -> int:
    """Return how many of ``tasks`` can run at the same time if each works on a matrix of ``values`` numbers.

    The upper limit is ``most``, by default the number of cores. The result is smaller if the matrices would need too
    much memory.
    """
    return max(1, min(tasks, most or cpu_count(), MAX_PARALLEL_VALUES // max(values, 1)))


def run_parallel(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, size: Callable[[Task], int] = lambda _: 0
) -> list[Result]:
    """Apply a function to all tasks on ``workers`` threads, and return the results in the order of the tasks.

    Tasks with the largest ``size`` start first, so that no large task runs alone at the end.
    """
    if workers == 1:
        return [function(task) for task in tasks]
    order = sorted(range(len(tasks)), key=lambda number: -size(tasks[number]))
    # BLAS gets one thread per task. Several threads in one product wait for each other, most of all on a busy machine.
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        results = dict(zip(order, pool.map(function, [tasks[number] for number in order]), strict=True))
    return [results[number] for number in range(len(tasks))]


def one_thread_if_small(values: int) -> AbstractContextManager[object]:
    """Limit BLAS to one thread for the product of a matrix and a few columns. A very large matrix has no limit."""
    return threadpool_limits(1 if values <= ONE_THREAD_VALUES else None, user_api="blas")  # type: ignore[no-any-return]


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Give every joblib process one thread, so that results do not depend on the number of processes.

    BLAS adds numbers up in an order that depends on its number of threads. If joblib uses another backend, such as Ray,
    this backend is kept, because it limits the number of threads itself.
    """
    backend, _ = get_active_backend()
    local = isinstance(backend, LokyBackend)
    with (
        threadpool_limits(limits=1, user_api="blas"),
        parallel_config("loky", inner_max_num_threads=1) if local else nullcontext(),
    ):
        yield


@contextmanager
def raise_if_process_killed(jobs: int) -> Iterator[None]:
    """Raise ``EngineError`` if one of ``jobs`` processes is killed while the ``with`` block runs."""
    try:
        yield
    except BrokenProcessPool as error:
        raise EngineError(
            f"one of {jobs} processes was killed, as the system does when memory runs out; run it again with fewer "
            "processes (--jobs, workers)"
        ) from error
