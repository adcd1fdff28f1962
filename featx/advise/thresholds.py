"""Where the lines of the plane run, and why there. They are conventions: round numbers that were set beforehand.

Each measure becomes a score from 0 to 1 that is 0.5 at its threshold, and 0.5 is where both axes are divided.
"""

BORDER = 0.5
NEAR = 0.1
"""A score this near to the border says that either side is possible."""

IMAGES = 40
"""Images a class: the geometric middle of 20, which this project calls small, and 80, which it calls large."""
GAIN = 0.02
"""Accuracy that as many images again would bring a linear head. Above it the head is still short of images, and a
network, which has more to learn, is so all the more; below it the features hold the head up. The sampling error of a
few hundred scored images is of that order."""

DISTANCE = 1.5
"""Distance of feature means from photographs', in units of how far single photographs lie from their mean. Set on the
sample images that scikit-image and scikit-learn bring along, none of which is in the reference: crops of six single
photographs of other things lie 0.9 to 1.5 from it and one of a night sky 1.6, all seven together 0.8; scans, textures,
pages and microscopy lie 1.3 to 2.2 (``benchmarks/reference_statistics.py``)."""
SMALLEST_FOR_DEPTH = 192
"""Pixels: block 5 then has six positions a side, of the seven that it was trained with. At 128 pixels block 4 is
better on photographs of flowers too, which at 224 pixels are best told apart by block 5."""
