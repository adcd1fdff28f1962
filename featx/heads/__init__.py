"""Linear heads on cached features: plain sklearn pipelines behind a normalizer, and how good they are."""

from featx.heads.metrics import format_report, score_report
from featx.heads.normalizer import BlockNormalizer
from featx.heads.pipelines import HEADS, NORMALIZERS, from_linear_parts, linear_parts, make_head

__all__ = [
    "HEADS",
    "NORMALIZERS",
    "BlockNormalizer",
    "format_report",
    "from_linear_parts",
    "linear_parts",
    "make_head",
    "score_report",
]
