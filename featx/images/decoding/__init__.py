"""Decode the bytes of an image file to pixels, within limits on memory and time."""
