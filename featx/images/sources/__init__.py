"""List the images of a source: a folder, a manifest, shards, a data set, or paths."""
