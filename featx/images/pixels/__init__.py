"""Change the pixels of one image: convert its color mode, resize it and augment it."""
