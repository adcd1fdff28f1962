"""ExtractSpec: everything that decides the value of a feature, and nothing else.

Engine, device, batch size and number of workers are in `featx.Compute` instead: they must not change a value by more
than the tolerance of the precision class.
"""

import dataclasses
import hashlib
import itertools
import json
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featx.backbones import (
    BLOCK_NUMBERS,
    CONVOLUTIONS,
    MIN_SIZE,
    POOL_NAMES,
    PREPROCESSINGS,
    WhichBlocks,
    WhichPools,
    feature_name,
    feature_width,
    has_feature,
    parse_blocks,
    sort_pools,
)
from featx.errors import SpecError, SpecMismatch
from featx.spec.augmentation import FILLS, format_augment, parse_augment
from featx.spec.value_range import RANGE_FORMS, ValueRange, format_limits

RESIZES = ("squash", "crop", "pad")
DECODES = ("full", "scaled")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
TOLERANCES = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 4.5e-2, "int8": 4.5e-2}
"""Largest relative error of each precision class. The relative error is ``|a - b| / |b|`` for one row of one feature on
two machines or engines. An error of 0.045 is a cosine of 0.999. For int8, both must have the same calibration."""
PRECISIONS = tuple(TOLERANCES)
AUTO = "auto"
"""Precision of a spec until `featx.extract` chooses one. As a range, it is the default."""


@dataclass(frozen=True, repr=False)
class ExtractSpec:
    """What to extract: everything that decides the value of a feature.

    Parameters
    ----------
    backbone, backbone_digest : str
        Name of the weights, and the sha256 of their 26 tensors. `featx.extract` fills in the sha256.
    preprocessing : str
        How pixels are normalized for the backbone: a key of ``featx.backbones.PREPROCESSINGS``. `featx.extract` fills
        it in as well.
    blocks : tuple of int, str or int
        Blocks whose output is pooled, 1 to 5. ``"3-5"``, ``"1,4"`` and ``5`` become tuples.
    pools : tuple of str or str
        How the feature map of a block becomes a vector: ``avg`` (mean), ``max``, ``gem``, ``flat`` or ``cov16`` to
        ``cov256``. ``"avg,max"`` becomes a tuple. ``cov64`` is the matrix square root of the covariance of 64 projected
        channels; it is only computed for blocks with at least twice as many channels.
    size : int
        Side of the square input in pixels, 32 or more.
    resize : {"squash", "crop", "pad"}
        How an image is fitted into the square: change its aspect ratio, cut off the longer side, or add borders.
    interpolation : {"nearest", "bilinear", "bicubic", "lanczos"}
        Filter that resizes images.
    decode : {"full", "scaled"}
        ``scaled`` decodes a large JPEG at 1/2, 1/4 or 1/8 of its size, but no smaller than ``size``. That is faster,
        and the pixel values differ slightly.
    range : str or (float, float)
        Which values are black and white in images of more than 8 bits, so that all images have the same scale. A pair
        of numbers, or ``"LOW:HIGH"``, names the two values. ``dtype`` takes the smallest and largest value of the type
        of the image, and 0 and 1 for floats. ``auto`` does the same for unsigned integers of up to 16 bits. For other
        types it takes 0 to 65535 (integers) or 0 to 1 (floats) if that contains all values. Otherwise `featx.extract`
        takes the smallest and largest value of a sample of the images, and the spec of the store has
        ``"auto:LOW:HIGH"``.
    precision : {"fp32", "fp16", "bf16", "int8", "auto"}
        Precision of the backbone; pooling always sums in float32. With ``auto``, `featx.extract` chooses: the precision
        of the existing store, else the fastest one on this machine that agrees with fp32. A stored spec never has
        ``auto``.
    calibration : tuple of float
        For ``int8``, the largest input of each of the 13 convolutions. Larger inputs are clipped. The tuple is empty
        before the calibration, and for the other precisions.
    n_views : int
        Rows per image: the plain image and ``n_views - 1`` augmented copies.
    augment : str
        Transforms of the augmented copies, such as ``flip,rotate=30`` (see `featx.spec.augmentation`). It is empty if
        ``n_views`` is 1.
    fill : {"reflect", "symmetric", "edge", "constant"}
        Fill mode: what an augmented copy shows outside the image.
    view_seed : int
        Seed of the augmentation, 0 or more.

    Raises
    ------
    SpecError
        If a value is out of range. The message names the field.

    Examples
    --------
    >>> from featx import ExtractSpec
    >>> ExtractSpec(blocks="4-5", pools="avg,max", size=384)
    ExtractSpec(blocks=(4, 5), pools=('avg', 'max'), size=384)
    """

    backbone: str = "oxford"
    backbone_digest: str = ""
    preprocessing: str = "oxford"
    blocks: tuple[int, ...] = BLOCK_NUMBERS
    pools: tuple[str, ...] = ("avg",)
    size: int = 224
    resize: str = "squash"
    interpolation: str = "bilinear"
    precision: str = "fp32"
    calibration: tuple[float, ...] = ()
    decode: str = "full"
    range: str = "auto"
    n_views: int = 1
    augment: str = ""
    fill: str = "reflect"
    view_seed: int = 0

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "blocks", parse_blocks(self.blocks))
        except ValueError as error:
            raise SpecError(f"blocks of the spec: {error}") from None
        for name in ("size", "n_views", "view_seed"):
            value = getattr(self, name)
            if hasattr(value, "__index__") and not isinstance(value, bool):
                object.__setattr__(self, name, operator.index(value))  # numpy's integers become Python's
        # Poolings are sorted and without duplicates, so that equal specs have equal digests.
        pools: WhichPools = self.pools
        pools = pools.split(",") if isinstance(pools, str) else pools
        object.__setattr__(self, "pools", tuple(dict.fromkeys(pools)))
        if not self.pools:
            raise SpecError(f"pools of the spec must name at least one of {', '.join(POOL_NAMES)}, got none")
        try:
            object.__setattr__(self, "pools", sort_pools(self.pools))
        except ValueError as error:
            raise SpecError(f"pools of the spec {error}") from None
        if empty := [block for block in self.blocks if not any(has_feature(block, pool) for pool in self.pools)]:
            raise SpecError(
                f"pools of the spec must project to at most half of the channels of a block, got {_listed(self.pools)} "
                f"for block {empty[0]}; leave out the block, or add another pooling"
            )
        _check_choice("resize", self.resize, RESIZES)
        _check_choice("decode", self.decode, DECODES)
        _check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        _check_choice("precision", self.precision, (AUTO, *PRECISIONS))
        _check_choice("preprocessing", self.preprocessing, tuple(PREPROCESSINGS))
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < MIN_SIZE:
            raise SpecError(f"size of the spec must be a whole number of at least {MIN_SIZE} pixels, got {self.size!r}")
        self._check_range()
        self._check_calibration()
        self._check_views()

    def __repr__(self) -> str:
        changed = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "backbone_digest" and value:
                changed.append(f"{field.name}='{value[:8]}…'")
            elif field.name == "calibration" and value:
                changed.append(f"calibration=({len(value)} numbers)")
            elif value != field.default:
                changed.append(f"{field.name}={value!r}")
        return f"ExtractSpec({', '.join(changed)})"

    def _check_range(self) -> None:
        given: str | Sequence[float] = self.range
        try:
            if not isinstance(given, str):
                low, high = map(float, given)
                given = format_limits(low, high)
            object.__setattr__(self, "range", str(ValueRange.parse(given)))
        except (TypeError, ValueError, OverflowError):
            raise SpecError(f"range of the spec must be {RANGE_FORMS}, got {self.range!r}") from None

    def _check_calibration(self) -> None:
        if not self.calibration:
            return
        if self.precision != "int8":
            raise SpecError(
                f"calibration of the spec is for precision int8, got precision {self.precision}; leave it out"
            )
        if len(self.calibration) != len(CONVOLUTIONS) or not all(0 < bound < math.inf for bound in self.calibration):
            listed = _listed(self.calibration)
            raise SpecError(f"calibration of the spec must be {len(CONVOLUTIONS)} positive numbers, got {listed}")

    def _check_views(self) -> None:
        for name, least in (("n_views", 1), ("view_seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise SpecError(f"{name} of the spec must be a whole number of at least {least}, got {value!r}")
        _check_choice("fill", self.fill, FILLS)
        try:
            object.__setattr__(self, "augment", format_augment(parse_augment(str(self.augment))))
        except ValueError as error:
            raise SpecError(f"augment of the spec {error}") from None
        if self.n_views > 1 and not self.augment:
            raise SpecError(
                f"augment of the spec must name a transform for {self.n_views} views, such as flip, got none"
            )
        if self.n_views == 1 and any(getattr(self, name) != value for name, value in ONE_VIEW.items()):
            raise SpecError("augment, fill and view_seed of the spec are for n_views of 2 or more; leave them out")

    @property
    def value_range(self) -> ValueRange:
        """The range of values that images of more than 8 bits are scaled from."""
        return ValueRange.parse(self.range)

    @property
    def plain(self) -> "ExtractSpec":
        """The same spec without augmented copies. Use it to compare the features of two specs."""
        return dataclasses.replace(self, **ONE_VIEW)

    @property
    def features(self) -> tuple[tuple[int, str], ...]:
        """The (block, pool) pairs in the order of columns: by block, then by pool."""
        return tuple((block, pool) for block in self.blocks for pool in self.pools if has_feature(block, pool))

    @property
    def widths(self) -> dict[str, int]:
        """Number of columns of each feature, by name (``block3_avg``) and in the order of columns."""
        return {feature_name(block, pool): feature_width(block, pool, self.size) for block, pool in self.features}

    @property
    def width(self) -> int:
        """Number of columns of all features together."""
        return sum(self.widths.values())

    @property
    def column_names(self) -> list[str]:
        """The name of each column, such as ``block3_avg_17``."""
        return [f"{name}_{column}" for name, width in self.widths.items() for column in range(width)]

    @property
    def slices(self) -> dict[str, slice]:
        """The columns of each feature, by name."""
        edges = itertools.accumulate(self.widths.values(), initial=0)
        return {name: slice(*edge) for name, edge in zip(self.widths, itertools.pairwise(edges), strict=True)}

    @property
    def tolerance(self) -> float:
        """The largest relative error of a row of one feature between two machines or engines."""
        return TOLERANCES[self.precision]

    def check_resolved(self, owner: str) -> None:
        """Raise ``SpecError`` if the precision is still ``auto``. The message names ``owner``."""
        if self.precision == AUTO:
            raise SpecError(f"precision of {owner} must be one of {', '.join(PRECISIONS)}, got 'auto'; "
                            "name one, or let featx.extract choose")  # fmt: skip

    def to_json(self) -> str:
        """Write the spec as one line of JSON with sorted keys. Equal specs give equal texts, also in later versions.

        Raises
        ------
        SpecError
            If the precision is still ``auto``.
        """
        self.check_resolved("a spec that is stored")
        values = {
            STORED_AS.get(name, name): value
            for name, value in dataclasses.asdict(self).items()
            if not _is_later_default(name, value)
        }
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ExtractSpec":
        """Read what `to_json` wrote.

        Raises
        ------
        SpecError
            If the text is not a spec, or has fields of a later version of featx.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            for name, stored in STORED_AS.items():
                if stored in values:
                    values[name] = values.pop(stored)
            unknown = sorted(values.keys() - {field.name for field in dataclasses.fields(cls)})
        except (ValueError, TypeError, AttributeError):
            raise SpecError(f"the spec must be a JSON object, got {text[:60]!r}") from None
        if unknown:
            raise SpecError(f"the spec has fields that this featx does not know: {', '.join(unknown)}; update featx")
        try:
            values.update({name: tuple(values[name]) for name in ("blocks", "pools", "calibration") if name in values})
            spec = cls(**values)
        except TypeError:
            raise SpecError(f"the spec's values have wrong types: {text[:200]}") from None
        spec.check_resolved("a stored spec")
        return spec

    @property
    def digest(self) -> str:
        """The sha256 of the spec's JSON, as hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def select(self, blocks: WhichBlocks | None = None, pools: WhichPools | None = None) -> "ExtractSpec":
        """Return the spec for some of its blocks and pools. Raise ``SpecError`` if the spec lacks one of them."""
        given: dict[str, Any] = {
            name: value for name, value in (("blocks", blocks), ("pools", pools)) if value is not None
        }
        chosen = dataclasses.replace(self, **given)
        for name in ("blocks", "pools"):
            has, wants = getattr(self, name), getattr(chosen, name)
            if missing := [value for value in wants if value not in has]:
                raise SpecError(f"{name} must be among {_listed(has)}, which were extracted, got {_listed(missing)}")
        return chosen

    def with_backbone(self, name: str, digest: str, preprocessing: str) -> "ExtractSpec":
        """Return a copy of the spec for other weights."""
        return dataclasses.replace(self, backbone=name, backbone_digest=digest, preprocessing=preprocessing)

    def check_same(self, other: "ExtractSpec", *, this: str, that: str, remedy: str) -> None:
        """Check that two specs are equal.

        Parameters
        ----------
        other : ExtractSpec
        this, that : str
            Names of what has this spec and of what has the other one. The message contains them.
        remedy : str
            What the user can do. The message ends with it.

        Raises
        ------
        SpecMismatch
            If the specs differ. The message names the first field that differs, and both values.
        """
        for field in dataclasses.fields(self):
            mine, others = getattr(self, field.name), getattr(other, field.name)
            if mine != others:
                raise SpecMismatch(
                    f"{field.name} is {_listed(mine)} in {this} but {_listed(others)} in {that}; {remedy}"
                )


ONE_VIEW: dict[str, Any] = {"n_views": 1, "augment": "", "fill": "reflect", "view_seed": 0}
"""Values that the fields of augmentation have in a spec without augmented copies."""
STORED_AS = {"backbone": "trunk", "backbone_digest": "trunk_digest", "n_views": "views"}
"""Fields that have another name in stored JSON. New names in the JSON would change the digests of existing stores."""
LATER: dict[str, object] = {"calibration": (), "decode": "full", "range": AUTO, **ONE_VIEW}
"""Fields that were added after the first version. Their defaults are not written to JSON, so that older specs keep
their digests."""


def _is_later_default(name: str, value: object) -> bool:
    return name in LATER and value == LATER[name]


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise SpecError(f"{name} of the spec must be one of {', '.join(choices)}, got {value!r}")


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
