"""List the images of folders, manifests, shards and data sets."""
