"""Find images that deserve a look: wrong labels, duplicates, outliers."""
