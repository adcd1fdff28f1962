"""Write the features of a store as a file for other programs."""
