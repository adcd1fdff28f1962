"""Every error that featx raises on purpose.

FeatxError
├── SpecError          (ValueError)         an option or a spec's value is out of range
│   └── SpecMismatch                        two specs that must agree do not
├── WeightsError       (OSError)            a weights file cannot be read or has no VGG16
│   ├── WeightsNotFound (FileNotFoundError) no source has the weights
│   └── WeightsMismatch (ValueError)        the weights are not those that were asked for
├── ListingError       (ValueError)         a folder, manifest or list names no usable images
├── ImageError         (ValueError)         one image cannot be decoded
├── EngineError        (RuntimeError)       the device or engine cannot do what was asked
├── StoreError         (OSError)            a store cannot be read or written
│   ├── StoreExists    (FileExistsError)    a store would be overwritten
│   ├── StoreLocked    (BlockingIOError)    another process writes the store
│   └── StoreCorrupt                        a store is truncated, or its bytes were changed
├── DataError          (ValueError)         rows or labels do not allow what was asked for
└── ModelError         (OSError)            a model file cannot be read or written

Each class is also a subclass of a built-in exception, so that code that does not know featx can catch it.

``FeatxWarning`` is the category of warnings about someone's data: work goes on, but a result may mislead.
"""


class FeatxError(Exception):
    """Base class of all errors of featx. A command that raises one ends with exit code 1."""


class SpecError(FeatxError, ValueError):
    """An option or a spec's value is out of range."""


class SpecMismatch(SpecError):
    """Two specs that must agree do not."""


class WeightsError(FeatxError, OSError):
    """A weights file cannot be read or has no VGG16."""


class WeightsNotFound(WeightsError, FileNotFoundError):
    """No source has the weights."""


class WeightsMismatch(WeightsError, ValueError):
    """The weights are not those that were asked for."""


class ListingError(FeatxError, ValueError):
    """A folder, manifest or list names no usable images."""


class ImageError(FeatxError, ValueError):
    """One image cannot be decoded."""


class EngineError(FeatxError, RuntimeError):
    """The device or engine cannot do what was asked."""


class StoreError(FeatxError, OSError):
    """A store cannot be read or written."""


class StoreExists(StoreError, FileExistsError):
    """A store would be overwritten."""


class StoreLocked(StoreError, BlockingIOError):
    """Another process writes the store."""


class StoreCorrupt(StoreError):
    """A store is truncated, or its bytes were changed."""


class DataError(FeatxError, ValueError):
    """Rows or labels do not allow what was asked for."""


class ModelError(FeatxError, OSError):
    """A model file cannot be read or written."""


class FeatxWarning(UserWarning):
    """Something in the data may mislead: work goes on. The command line shows such a warning as one line."""
