"""Advise which way of transfer learning fits the data."""
