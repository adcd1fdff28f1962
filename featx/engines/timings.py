"""Where the time of an extraction goes: what each stage could do alone, and which of them holds up the others."""

from dataclasses import dataclass, field

from joblib import cpu_count

from featx.images import LoadedImage

ADVICE = {
    "reading": "reading the files holds it up: put them on a faster disk, or read more at a time with --workers",
    "decoding": "decoding holds it up: give more --workers where there are more cores, or --decode scaled",
    "resizing": "resizing holds it up: give more --workers where there are more cores, or --decode scaled",
    "computing": "the backbone holds it up: try {gpu}{precision}fewer --blocks or a smaller --size",
    "writing": "writing the store holds it up: put --output on a faster disk, or take fewer --pools",
}
"""For each stage, what makes a run faster that this stage holds up."""
FASTEST = {"auto", "int8"}, "int8 where the processor has VNNI"
FASTEST_ON_GPU = {"auto", "int8", "fp16", "bf16"}, "bf16"
"""Precisions than which none is faster, and what is advised in place of others: on a processor, and on a GPU, where
int8 is computed in floats."""


@dataclass
class Timings:
    """Seconds of each stage, summed over images, while stages run side by side.

    ``workers`` threads share reading, decoding and resizing; the last two also share the processor's cores.
    ``cores`` are those of all processors at work. ``precision`` is the one that was asked for;
    ``on_gpu`` says where the backbone runs.
    """

    workers: int = 1
    precision: str = "fp32"
    on_gpu: bool = False
    images: int = 0
    cores: int = field(default_factory=cpu_count)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ADVICE, 0.0))

    def loaded(self, images: list[LoadedImage]) -> None:
        """Add what the loading of some images took."""
        self.images += len(images)
        for image in images:
            for stage, seconds in zip(("reading", "decoding", "resizing"), image.seconds, strict=True):
                self.seconds[stage] += seconds

    def add(self, other: "Timings", lanes: int) -> None:
        """Add what one of ``lanes`` that compute side by side took down."""
        self.images += other.images
        self.on_gpu |= other.on_gpu
        for stage, seconds in other.seconds.items():
            self.seconds[stage] += seconds / lanes if stage in ("computing", "writing") else seconds

    @property
    def rates(self) -> dict[str, float]:
        """Images a second that each stage could do were it alone, of those that took any time."""
        side_by_side = min(self.workers, self.cores)
        lanes = {"reading": self.workers, "decoding": side_by_side, "resizing": side_by_side}
        return {
            stage: lanes.get(stage, 1) * self.images / seconds for stage, seconds in self.seconds.items() if seconds > 0
        }

    @property
    def bottleneck(self) -> str:
        """The stage of the lowest rate; empty if nothing was timed."""
        rates = self.rates
        return min(rates, key=rates.__getitem__) if self.images and rates else ""

    @property
    def advice(self) -> str:
        """One sentence: what would make it faster."""
        fastest, named = FASTEST_ON_GPU if self.on_gpu else FASTEST
        faster = "" if self.precision in fastest else f"a faster --precision ({named}), "
        return ADVICE.get(self.bottleneck, "").format(gpu="" if self.on_gpu else "a GPU, ", precision=faster)
