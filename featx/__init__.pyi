from .curation import load_features as load_features
from .errors import FeatxError as FeatxError
from .exporting import export as export
from .extraction import AssemblyOptions as AssemblyOptions
from .extraction import extract as extract
from .finetuning import (
    Recipe as Recipe,
)
from .finetuning import (
    finetune as finetune,
)
from .heads import BlockNormalizer as BlockNormalizer
from .heads import HeadSearchCV as HeadSearchCV
from .images import ListingOptions as ListingOptions
from .images import list_images as list_images
from .inspection import (
    advise as advise,
)
from .inspection import (
    audit as audit,
)
from .inspection import (
    explain as explain,
)
from .inspection import (
    preview as preview,
)
from .inspection import (
    probe as probe,
)
from .inspection import (
    report as report,
)
from .inspection import (
    suspects as suspects,
)
from .models import (
    FitOptions as FitOptions,
)
from .models import (
    Model as Model,
)
from .models import (
    Validation as Validation,
)
from .models import (
    VGG16Features as VGG16Features,
)
from .models import (
    evaluate as evaluate,
)
from .models import (
    fit as fit,
)
from .models import (
    load_model as load_model,
)
from .models import (
    predict as predict,
)
from .runtime import Compute as Compute
from .spec import ExtractSpec as ExtractSpec
from .store import Store as Store
from .version import __version__ as __version__
