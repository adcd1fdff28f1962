"""Cross-validated search over heads, values of C and feature sets."""
