"""Every error that featx raises on purpose::

    FeatxError
    ├── SpecError          (ValueError)         an option or a spec's value is out of range
    │   └── SpecMismatch                        two specs that must agree do not
    ├── FileUnreadable                          a file cannot be read now, although it may be whole
    ├── WeightsError       (OSError)            a weights file cannot be read or has no VGG16
    │   ├── WeightsUnreadable (FileUnreadable)  a weights file cannot be read now
    │   ├── WeightsNotFound (FileNotFoundError) no source has the weights
    │   └── WeightsMismatch (ValueError)        the weights are not those that were asked for
    ├── ListingError       (ValueError)         a folder, manifest or list names no usable images
    ├── ImageError         (ValueError)         one image cannot be decoded
    ├── EngineError        (RuntimeError)       the device or engine cannot do what was asked
    ├── StoreError         (OSError)            a store cannot be read or written
    │   ├── StoreExists    (FileExistsError)    a store would be overwritten
    │   ├── StoreUnreadable (FileUnreadable)    a store or one of its files cannot be read now
    │   │   └── StoreLocked (BlockingIOError)   another program has locked it
    │   └── StoreCorrupt                        a store is truncated, or its bytes were changed
    ├── DataError          (ValueError)         rows or labels do not allow what was asked for
    │   └── NoFolds                             every class is in one image or group, so nothing can be tested
    └── ModelError         (OSError)            a model file cannot be read or written
        └── ModelUnreadable (FileUnreadable)    a model file cannot be read now

Each class is also a subclass of a built-in exception, so that code that does not know featx can catch it.

``FeatxWarning`` is the category of warnings about someone's data: work goes on, but a result may mislead.
"""


class FeatxError(Exception):
    """Base class of all errors of featx. A command that raises one ends with exit code 1."""


class FileUnreadable(FeatxError):
    """A file cannot be read now: it is locked or forbidden, or its disk fails.

    The file may be whole, so nothing was removed or replaced because of it.
    """


class SpecError(FeatxError, ValueError):
    """An option or a spec's value is out of range."""


class SpecMismatch(SpecError):
    """Two specs differ although they must agree."""


class WeightsError(FeatxError, OSError):
    """A weights file cannot be read or has no VGG16."""


class WeightsUnreadable(WeightsError, FileUnreadable):
    """A weights file cannot be read now, although it may be whole."""


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


class StoreUnreadable(StoreError, FileUnreadable):
    """A store, or a file of an unfinished one, cannot be read now, although it may be whole."""


class StoreLocked(StoreUnreadable, BlockingIOError):
    """Another program writes the store, or has locked one of its files."""


class StoreCorrupt(StoreError):
    """A store is truncated, or its bytes were changed."""


class DataError(FeatxError, ValueError):
    """Rows or labels do not allow what was asked for."""


class NoFolds(DataError):
    """No fold can be made: every class has one image or group, which must be trained on."""


class ModelError(FeatxError, OSError):
    """A model file cannot be read or written."""


class ModelUnreadable(ModelError, FileUnreadable):
    """A model file cannot be read now, although it may be whole."""


class FeatxWarning(UserWarning):
    """Something in the data may mislead: work goes on. The command line shows such a warning as one line."""
