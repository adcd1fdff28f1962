"""A head as a scikit-learn pipeline: its steps, its fit, its probabilities and its stored form."""
