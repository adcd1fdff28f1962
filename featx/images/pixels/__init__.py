"""The pixels of one image."""
