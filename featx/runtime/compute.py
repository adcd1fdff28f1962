"""Define how work runs: engine, device, batch size, workers and executor. None of these changes what is computed."""

import dataclasses
from dataclasses import dataclass

from featx.errors import SpecError
from featx.runtime.display import short_repr

ENGINES = ("auto", "torch", "openvino", "ncnn")
EXECUTORS = ("local", "ray")


@dataclass(frozen=True, repr=False)
class Compute:
    """How work runs, as opposed to what it computes. No field changes a value by more than rounding.

    Parameters
    ----------
    engine : {"auto", "torch", "openvino", "ncnn"}
        Library that runs the backbone. ``auto`` takes the fastest one that is installed for the device.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    batch_size : int, optional
        Number of images per forward pass. By default, it suits the device. It is halved when memory runs out.
    workers : int, optional
        Number of threads or processes that decode images (by default one per core), of processes that fit heads (by
        default one), or of Ray actors (by default one per GPU, or one per node if there is no GPU).
    max_pixels : int, optional
        Images with more pixels are recorded as failures and not decoded. By default, Pillow's own limit applies.
    executor : {"local", "ray"}
        Run in this process, or on a Ray cluster (extra ``ray``).
    ray_address : str, optional
        Address of the Ray cluster. By default, it is the environment variable ``RAY_ADDRESS``, or else a cluster on
        this machine.
    cpus_per_worker : int, optional
        Number of cores per Ray actor. By default, the cores are shared equally.
    gpus_per_worker : float, optional
        Number of GPUs per Ray actor. By default, it is 1 if there are GPUs.
    shard : str, optional
        ``"3/16"`` runs only the third of sixteen shards of an extraction.
    wait : bool
        Wait for another process that writes the same store, instead of raising an error.
    progress : bool
        Show a progress bar on a terminal or in a notebook.

    Raises
    ------
    SpecError
        If a value is out of range. The message names the field.

    Examples
    --------
    >>> from featx import Compute
    >>> Compute(engine="ncnn", workers=8)
    Compute(engine='ncnn', workers=8)
    """

    engine: str = "auto"
    device: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    max_pixels: int | None = None
    executor: str = "local"
    ray_address: str | None = None
    cpus_per_worker: int | None = None
    gpus_per_worker: float | None = None
    shard: str | None = None
    wait: bool = False
    progress: bool = False

    def __post_init__(self) -> None:
        for name, choices in (("engine", ENGINES), ("executor", EXECUTORS)):
            if (value := getattr(self, name)) not in choices:
                raise SpecError(f"{name} of Compute must be one of {', '.join(choices)}, got {value!r}")
        for name in ("batch_size", "workers", "max_pixels", "cpus_per_worker"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not hasattr(value, "__index__") or value < 1):
                raise SpecError(f"{name} of Compute must be a whole number of at least 1, got {value!r}")
        gpus = self.gpus_per_worker
        if gpus is not None and not gpus >= 0:
            raise SpecError(f"gpus_per_worker of Compute must be at least 0, got {gpus!r}")
        if self.executor != "ray":
            self._refuse_ray_options()

    def __repr__(self) -> str:
        return short_repr(self)

    def check_unused(self, verb: str, *names: str) -> None:
        """Raise ``SpecError`` if a field in ``names`` is set, because the command ``verb`` would silently ignore it."""
        for field in dataclasses.fields(self):
            if field.name in names and (value := getattr(self, field.name)) != field.default:
                raise SpecError(f"{field.name} of Compute is not supported by {verb}, got {value!r}; leave it out")

    def _refuse_ray_options(self) -> None:
        for name in ("ray_address", "cpus_per_worker", "gpus_per_worker"):
            if getattr(self, name) is not None:
                raise SpecError(f"{name} of Compute is for executor ray, got executor {self.executor}; leave it out")
