"""Compute what each section of a report shows. The templates of the same names turn it into HTML."""
