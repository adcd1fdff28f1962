"""Find images that a person should look at: wrong labels, near-duplicates, outliers and confused classes."""
