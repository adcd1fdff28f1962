"""The pixels of one image: color modes, resizing and augmentation."""
