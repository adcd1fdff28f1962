"""Measure the time of each stage of an extraction, find the slowest stage, and say how to speed it up."""

from dataclasses import dataclass, field

from joblib import cpu_count

from featx.images import LoadedImage

ADVICE = {
    "reading": "the bottleneck is reading files: put them on a faster disk, or read more at once with more --workers",
    "decoding": "the bottleneck is decoding images: use more --workers if there are more cores, or --decode scaled",
    "resizing": "the bottleneck is resizing images: use more --workers if there are more cores, or --decode scaled",
    "computing": "the bottleneck is the backbone: use {gpu}{precision}fewer --blocks, or a smaller --size",
    "writing": "the bottleneck is writing the store: put --output on a faster disk, or use fewer --pools",
}
"""How to speed up a run, by its slowest stage."""
FASTEST_ON_CPU = {"auto", "int8"}, "int8 if the CPU has VNNI"
FASTEST_ON_GPU = {"auto", "int8", "fp16", "bf16"}, "bf16"
"""The first item holds the precisions for which no faster one is recommended on a GPU. The second item is the precision
to recommend for all others. (GPUs compute int8 in floats, at the speed of fp32.)"""


@dataclass
class StageTimings:
    """The seconds that each stage takes, summed over images. The stages run at the same time.

    Parameters
    ----------
    workers : int
        Number of threads that read, decode and resize.
    precision : str
        The requested precision, which may be ``auto``.
    on_gpu : bool
        Whether the backbone runs on a GPU.
    images : int
        Number of images so far.
    cores : int
        Number of cores of all machines that take part. Decoding and resizing share them.
    seconds : dict of str to float
        Seconds by stage. The stages are the keys of `ADVICE`.
    """

    workers: int = 1
    precision: str = "fp32"
    on_gpu: bool = False
    images: int = 0
    cores: int = field(default_factory=cpu_count)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ADVICE, 0.0))

    def add_images(self, images: list[LoadedImage]) -> None:
        """Count images and add the time that loading them took."""
        self.images += len(images)
        for image in images:
            for stage, seconds in zip(("reading", "decoding", "resizing"), image.seconds, strict=True):
                self.seconds[stage] += seconds

    def merge(self, other: "StageTimings", machines: int) -> None:
        """Add the timings of one machine. ``machines`` is the number of machines that run at the same time."""
        self.images += other.images
        self.on_gpu |= other.on_gpu
        for stage, seconds in other.seconds.items():
            self.seconds[stage] += seconds / machines if stage in ("computing", "writing") else seconds

    @property
    def rates(self) -> dict[str, float]:
        """The images per second that each stage would do alone. Stages that took no time are left out."""
        parallel = min(self.workers, self.cores)
        threads = {"reading": self.workers, "decoding": parallel, "resizing": parallel}
        return {
            stage: threads.get(stage, 1) * self.images / seconds
            for stage, seconds in self.seconds.items()
            if seconds > 0
        }

    @property
    def bottleneck(self) -> str:
        """The name of the stage with the lowest rate. It is empty if nothing was timed."""
        rates = self.rates
        return min(rates, key=rates.__getitem__) if self.images and rates else ""

    @property
    def advice(self) -> str:
        """One sentence that names the bottleneck and says how to speed it up. It is empty if nothing was timed."""
        fastest, recommended = FASTEST_ON_GPU if self.on_gpu else FASTEST_ON_CPU
        faster = "" if self.precision in fastest else f"a faster --precision ({recommended}), "
        return ADVICE.get(self.bottleneck, "").format(gpu="" if self.on_gpu else "a GPU, ", precision=faster)
