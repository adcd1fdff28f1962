"""Measure how long each stage of an extraction takes, and find the bottleneck."""

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
"""By stage: how to speed up a run that this stage limits."""
FASTEST = {"auto", "int8"}, "int8 if the CPU has VNNI"
FASTEST_ON_GPU = {"auto", "int8", "fp16", "bf16"}, "bf16"
"""The fastest precisions, and the one to recommend to a run with another; on a CPU, and on a GPU, where int8 is computed
in floating point."""


@dataclass
class Timings:
    """Seconds of each stage, summed over images; the stages run at the same time.

    ``workers`` threads share reading, decoding and resizing; ``cores``, of all machines, limit decoding and resizing.
    ``precision`` is the one that was asked for, and ``on_gpu`` tells where the backbone runs.
    """

    workers: int = 1
    precision: str = "fp32"
    on_gpu: bool = False
    images: int = 0
    cores: int = field(default_factory=cpu_count)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ADVICE, 0.0))

    def loaded(self, images: list[LoadedImage]) -> None:
        """Add the time that loading some images took."""
        self.images += len(images)
        for image in images:
            for stage, seconds in zip(("reading", "decoding", "resizing"), image.seconds, strict=True):
                self.seconds[stage] += seconds

    def add(self, other: "Timings", lanes: int) -> None:
        """Add the timings of one of ``lanes`` workers that compute at the same time."""
        self.images += other.images
        self.on_gpu |= other.on_gpu
        for stage, seconds in other.seconds.items():
            self.seconds[stage] += seconds / lanes if stage in ("computing", "writing") else seconds

    @property
    def rates(self) -> dict[str, float]:
        """Images per second that each stage could do alone; stages that took no time are left out."""
        side_by_side = min(self.workers, self.cores)
        lanes = {"reading": self.workers, "decoding": side_by_side, "resizing": side_by_side}
        return {
            stage: lanes.get(stage, 1) * self.images / seconds for stage, seconds in self.seconds.items() if seconds > 0
        }

    @property
    def bottleneck(self) -> str:
        """The stage with the lowest rate; empty if nothing was timed."""
        rates = self.rates
        return min(rates, key=rates.__getitem__) if self.images and rates else ""

    @property
    def advice(self) -> str:
        """One sentence on the bottleneck and how to speed it up."""
        fastest, named = FASTEST_ON_GPU if self.on_gpu else FASTEST
        faster = "" if self.precision in fastest else f"a faster --precision ({named}), "
        return ADVICE.get(self.bottleneck, "").format(gpu="" if self.on_gpu else "a GPU, ", precision=faster)
