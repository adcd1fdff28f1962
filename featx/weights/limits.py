"""How large weights may be."""

LARGEST = 3 << 30
"""Bytes of a file, or of the member of an archive that has the weights: a whole VGG16 with its optimizer has 1.6e9."""

MAX_HEADER = 100_000_000
"""Bytes of a safetensors header; the most that safetensors itself takes."""
