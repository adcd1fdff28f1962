"""A mutation fuzzer of what reads files that anyone may have made: stores, models, weights, manifests and images.

``python -m fuzz`` (in ``tests/``; ``make fuzz`` from the root) makes inputs from small valid files, gives each to its
reader, and keeps those that make it raise anything but a ``FeatxError``, crash, hang, or print.
"""
