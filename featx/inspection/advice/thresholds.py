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
sample images that scikit-image and scikit-learn bring along, none of which is in the reference. Crops of one picture
each: six photographs of things lie 0.9 to 1.5 from it, one at night 1.7, all seven together 0.8; eight textures, pages,
scans and starry skies 1.6 to 2.2, and stained tissue and a gray photograph, which it takes for photographs of things,
1.3 (``benchmarks/reference_statistics.py``)."""
SMALLEST_FOR_DEPTH = 192
"""Pixels: block 5 then has six positions a side, of the seven that it was trained with. On photographs of flowers, best
told apart by block 5 at 224 pixels, block 4 is better at 128, and no worse at 160."""
