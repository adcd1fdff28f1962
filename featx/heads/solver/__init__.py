"""Exact, certified fits of all folds, values of C and classes of a linear head, as batches of matrix products."""
