"""Measure what common preprocessing mistakes would cost."""
