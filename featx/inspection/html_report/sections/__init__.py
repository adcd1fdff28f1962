"""Compute what each section of a report shows; the templates of the same names draw it."""
