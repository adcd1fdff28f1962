"""The thresholds of the scores of size and similarity, and the reasons for their values.

Every measure is turned into a score from 0 to 1, which is 0.5 at the threshold of the measure. Size and similarity are
both divided at 0.5. The thresholds are round numbers that were chosen by convention, before they were tried on data.
"""

BORDER = 0.5
NEAR = 0.1
"""If a score is this close to 0.5, both sides are possible."""

IMAGES = 40
"""Images per class: the geometric mean of 20, which this project calls small, and 80, which it calls large."""
GAIN = 0.02
"""Gain in accuracy of a linear head from twice as many images. A head that gains more still needs images. A network has
more parameters and needs images even more. For a head that gains less, the features are the limit. The sampling error
of a few hundred scored images is about as large as this threshold."""

DISTANCE = 1.5
"""Distance between the feature means of images and of photographs. The unit is the typical distance of one photograph
from the mean of photographs. Among the sample images of scikit-image and scikit-learn, photographs of things are below
this distance, and other images are above it. None of these images is in the reference (measured, see
``benchmarks/reference_statistics.py``)."""
SMALLEST_FOR_DEPTH = 192
"""Pixels of the image side from which block 5 has at least 6 × 6 of the 7 × 7 positions that it was trained with. With
fewer pixels, block 4 is better even on photographs (measured on Flowers-17)."""
