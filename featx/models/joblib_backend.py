"""Among what scikit-learn's fits are shared out: processes of this machine, or a Ray cluster."""

from collections.abc import Iterator
from contextlib import contextmanager

from joblib import parallel_config

from featx.errors import EngineError, SpecError

RAY = "ray"


@contextmanager
def shared_out(jobs: int | str) -> Iterator[int]:
    """How many processes there are to fit in; within, joblib runs them on a Ray cluster if ``jobs`` is ``"ray"``.

    Raises
    ------
    SpecError
        If jobs is neither a whole number from 1 nor ``"ray"``.
    EngineError
        If Ray is not installed, its cluster cannot be reached or has no CPU, or a worker is lost.
    """
    if jobs != RAY:
        if not isinstance(jobs, int) or jobs < 1:
            raise SpecError(f"--jobs of fit must be ray or a whole number from 1, got {jobs!r}")
        yield jobs
        return
    # Here, since it imports what runs the backbone, of which a fit needs nothing.
    from featx.extraction import Cluster

    with Cluster().connected("--jobs ray") as ray:
        from ray.util.joblib import register_ray

        register_ray()  # type: ignore[no-untyped-call]
        if not (cpus := int(ray.cluster_resources().get("CPU", 0))):
            raise EngineError("--jobs ray must have a cluster with CPUs, got none; start a node that has some")
        try:
            with parallel_config(RAY):
                yield cpus
        except ray.exceptions.RayError as error:
            raise EngineError(f"a Ray worker that fits was lost: {error}; run it again") from error
