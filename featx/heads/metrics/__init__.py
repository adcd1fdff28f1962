"""Scores of heads: reports, any scorer of scikit-learn, and the text of a report."""
