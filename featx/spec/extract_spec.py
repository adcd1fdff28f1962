"""ExtractSpec: everything that decides a feature's value, and nothing else.

Engine, device, batch size and worker count are left out on purpose: they must not change a value beyond the
tolerance of the precision class.
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
    POOLS,
    PREPROCESSINGS,
    WhichBlocks,
    WhichPools,
    feature_name,
    feature_width,
    parse_blocks,
)
from featx.errors import SpecError, SpecMismatch
from featx.spec.augmentation import FILLS, format_augment, parse_augment

RESIZES = ("squash", "crop", "pad")
DECODES = ("full", "scaled")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
TOLERANCES = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 4.5e-2, "int8": 4.5e-2}
"""By precision class: the largest relative error, ``|a - b| / |b|`` over one row of one feature, between two ways of
computing it. A relative error of 0.045 is a cosine of 0.999. For int8, between two of the same calibration."""
PRECISIONS = tuple(TOLERANCES)
AUTO = "auto"
"""The precision of a spec that is not resolved yet."""


@dataclass(frozen=True)
class ExtractSpec:
    """All that decides a feature's value.

    Parameters
    ----------
    backbone, backbone_digest : str
        Name of the weights and the sha256 of their 26 tensors (see ``featx.backbones``).
    preprocessing : str
        Which of ``PREPROCESSINGS`` the backbone's input goes through.
    blocks, pools : tuple
        Which blocks are tapped (1 to 5) and how each is pooled (``avg``, ``max``, ``gem``, ``flat``). Given as texts,
        ``"3-5"`` and ``"avg,max"``, or one block as a number, they become tuples.
    size : int
        Image side in pixels, 32 or more.
    resize, interpolation : str
        How a picture becomes size × size pixels (``squash``, ``crop``, ``pad``), by which filter.
    decode : str
        ``scaled`` decodes a JPEG at the smallest of its own scales, 1/2, 1/4 and 1/8, that is no smaller than size ×
        size; it is faster, and another picture. ``full`` decodes all of it.
    precision : str
        Precision class of the backbone's arithmetic: ``fp32``, ``fp16``, ``bf16`` or ``int8``. Pooling sums in float32.
        ``auto`` lets `featx.extract` choose: the precision of the existing store, else the fastest class on this
        machine that agrees with fp32. Stored specs never hold ``auto``.
    calibration : tuple of float
        For ``int8``: the largest input of each convolution that is told apart, in the backbone's order (see
        `featx.engines.int8`). Empty before the calibration, and for the other classes.
    n_views : int
        Rows an image: the plain picture, and ``views`` - 1 augmented copies of it.
    augment : str
        What the copies go through, ``flip,rotate=30`` (see `featx.spec.augmentation`); empty for one view.
    fill : str
        What copies show beyond their picture: ``reflect``, ``symmetric``, ``edge`` or ``constant``.
    view_seed : int
        Of the copies' random numbers, 0 or more.

    Raises
    ------
    SpecError
        If a value is out of range; the message names it.
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
                object.__setattr__(self, name, operator.index(value))  # of numpy's, as in a grid that is searched
        # In the table's order and once each, so that equal specs have equal digests.
        pools: WhichPools = self.pools
        pools = pools.split(",") if isinstance(pools, str) else pools
        object.__setattr__(self, "pools", tuple(dict.fromkeys(pools)))
        if not self.pools:
            raise SpecError(f"pools of the spec must name at least one of {', '.join(POOLS)}, got none")
        for pool in self.pools:
            _check_choice("pools", pool, POOLS)
        object.__setattr__(self, "pools", tuple(pool for pool in POOLS if pool in self.pools))
        _check_choice("resize", self.resize, RESIZES)
        _check_choice("decode", self.decode, DECODES)
        _check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        _check_choice("precision", self.precision, (AUTO, *PRECISIONS))
        _check_choice("preprocessing", self.preprocessing, tuple(PREPROCESSINGS))
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < MIN_SIZE:
            raise SpecError(f"size of the spec must be a whole number of at least {MIN_SIZE} pixels, got {self.size!r}")
        self._check_calibration()
        self._check_views()

    def _check_calibration(self) -> None:
        if not self.calibration:
            return
        if self.precision != "int8":
            raise SpecError(
                f"calibration of the spec is for precision int8, got one with {self.precision}; leave it out"
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
            raise SpecError(f"augment of the spec must name a part for {self.n_views} views, such as flip, got none")
        if self.n_views == 1 and any(getattr(self, name) != value for name, value in ONE_VIEW.items()):
            raise SpecError("augment, fill and view_seed of the spec are for views of 2 or more; leave them out")

    @property
    def plain(self) -> "ExtractSpec":
        """The same spec of plain pictures alone, which is what a head's features are told by."""
        return dataclasses.replace(self, **ONE_VIEW)

    @property
    def features(self) -> tuple[tuple[int, str], ...]:
        """The (block, pool) pairs in column order: by block, then by pool."""
        return tuple((block, pool) for block in self.blocks for pool in self.pools)

    @property
    def widths(self) -> dict[str, int]:
        """Columns of each feature by name (``block3_avg``), in column order."""
        return {feature_name(block, pool): feature_width(block, pool, self.size) for block, pool in self.features}

    @property
    def width(self) -> int:
        """Columns of all features side by side."""
        return sum(self.widths.values())

    @property
    def column_names(self) -> list[str]:
        """The name of each column when all features stand side by side, ``block3_avg_17``."""
        return [f"{name}_{column}" for name, width in self.widths.items() for column in range(width)]

    @property
    def slices(self) -> dict[str, slice]:
        """Where each feature's columns lie when all stand side by side."""
        edges = itertools.accumulate(self.widths.values(), initial=0)
        return {name: slice(*edge) for name, edge in zip(self.widths, itertools.pairwise(edges), strict=True)}

    @property
    def tolerance(self) -> float:
        """The largest relative error between two ways of computing a row of one feature."""
        return TOLERANCES[self.precision]

    def check_resolved(self, owner: str) -> None:
        """Raise ``SpecError`` if the precision is still ``auto``, which only an extraction can resolve."""
        if self.precision == AUTO:
            raise SpecError(f"precision of {owner} must be one of {', '.join(PRECISIONS)}, got 'auto'; "
                            "name one, or let featx.extract choose")  # fmt: skip

    def to_json(self) -> str:
        """The spec as one line of JSON with sorted keys: equal specs give equal text, in every later version.

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
        """Read what `to_json` wrote; ``SpecError`` if it is not a spec, or one of a later featx."""
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
        """sha256 of the spec's JSON, as hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def select(self, blocks: WhichBlocks | None = None, pools: WhichPools | None = None) -> "ExtractSpec":
        """The same spec for some of its blocks and pools; ``SpecError`` if one of them is not in it."""
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
        """The same spec for other weights."""
        return dataclasses.replace(self, backbone=name, backbone_digest=digest, preprocessing=preprocessing)

    def check_same(self, other: "ExtractSpec", *, this: str, that: str, remedy: str) -> None:
        """Raise ``SpecMismatch`` naming the first field in which ``other`` differs, both values and the remedy."""
        for field in dataclasses.fields(self):
            mine, others = getattr(self, field.name), getattr(other, field.name)
            if mine != others:
                raise SpecMismatch(
                    f"{field.name} is {_listed(mine)} in {this} but {_listed(others)} in {that}; {remedy}"
                )


ONE_VIEW: dict[str, Any] = {"n_views": 1, "augment": "", "fill": "reflect", "view_seed": 0}
"""The fields that decide the views of an image, for the plain one alone."""
STORED_AS = {"backbone": "trunk", "backbone_digest": "trunk_digest", "n_views": "views"}
"""Fields whose names in stored JSON differ: changing those would change the digest of every existing store."""
LATER: dict[str, object] = {"calibration": (), "decode": "full", **ONE_VIEW}
"""Fields that came after the first version. Their defaults are not written, so that older specs keep their digests."""


def _is_later_default(name: str, value: object) -> bool:
    return name in LATER and value == LATER[name]


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise SpecError(f"{name} of the spec must be one of {', '.join(choices)}, got {value!r}")


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
