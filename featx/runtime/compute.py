"""How an extraction runs: engine, device, batches, workers and executor. Nothing here changes a feature's value."""

from dataclasses import dataclass

from featx.errors import SpecError

ENGINES = ("auto", "torch", "openvino", "ncnn")
EXECUTORS = ("local", "ray")


@dataclass(frozen=True)
class Compute:
    """How work runs, apart from what it computes: no field changes a value beyond rounding.

    Parameters
    ----------
    engine : {"auto", "torch", "openvino", "ncnn"}
        What runs the backbone. ``auto`` takes the fastest that is installed for the device.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    batch_size : int, optional
        Images per forward pass; by default what suits the device. It is halved when memory runs out.
    workers : int, optional
        Threads or processes that decode images, by default one per core; processes that fit heads, by default one; or
        Ray actors, by default one per GPU or node.
    max_pixels : int, optional
        Images with more pixels are recorded as failures and not decoded; by default Pillow's own limit.
    executor : {"local", "ray"}
        Run in this process, or on a Ray cluster (extra ``ray``).
    ray_address : str, optional
        Address of the Ray cluster, by default that of ``RAY_ADDRESS``, else a cluster on this machine.
    cpus_per_worker : int, optional
        Cores per Ray actor, by default an equal share.
    gpus_per_worker : float, optional
        GPUs per Ray actor, by default 1 where there are GPUs.
    shard : str, optional
        ``"3/16"`` runs only the third of sixteen shards of an extraction.
    progress : bool
        Show a progress bar on a terminal or in a notebook.

    Raises
    ------
    SpecError
        If a value is out of range; the message names the field.
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
    progress: bool = False

    def __post_init__(self) -> None:
        for name, choices in (("engine", ENGINES), ("executor", EXECUTORS)):
            if (value := getattr(self, name)) not in choices:
                raise SpecError(f"{name} of Compute must be one of {', '.join(choices)}, got {value!r}")
        for name in ("batch_size", "workers", "max_pixels", "cpus_per_worker"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or value < 1):
                raise SpecError(f"{name} of Compute must be at least 1, got {value!r}")
