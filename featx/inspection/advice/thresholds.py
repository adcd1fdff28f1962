"""The thresholds of the scores of size and similarity, and the reasons for their values.

Every measure is turned into a score from 0 to 1, which is 0.5 at the threshold of the measure. Size and similarity are
both divided at 0.5. The thresholds are round numbers that were chosen by convention, before they were tried on data.
"""

BORDER = 0.5
NEAR = 0.1
"""A score this close to the border leaves both sides possible."""

IMAGES = 40
"""Images per class: the geometric mean of 20, which this project calls small, and 80, which it calls large."""
GAIN = 0.02
"""Gain in accuracy of a linear head from twice as many images. If it gains more, it still needs images, and a network,
which has more parameters, needs them even more. If it gains less, the features are the limit. The sampling error of a
few hundred scored images is about as large."""

DISTANCE = 1.5
"""Distance of feature means from those of photographs, in units of the typical distance of a single photograph from
their mean. It lies between photographs of things and other images, among the sample images of scikit-image and
scikit-learn, none of which is in the reference (measured, see ``benchmarks/reference_statistics.py``)."""
SMALLEST_FOR_DEPTH = 192
"""Pixels of the image side from which block 5 has at least 6 × 6 of the 7 × 7 positions that it was trained with. With
fewer pixels, block 4 is better even on photographs (measured on Flowers-17)."""
