"""Find images to look at: wrong labels, near-duplicates, outliers and confused classes."""
