"""A mutation fuzzer for everything that reads untrusted files: stores, models, weights, manifests and images.

``python -m fuzz`` (in ``tests/``; ``make fuzz`` from the root) changes small valid files, passes each to its reader,
and keeps the inputs on which a reader crashes, hangs, prints, or raises anything but a ``FeatxError``.
"""
