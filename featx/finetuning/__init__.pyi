from . import recipe as recipe
from .distributed import is_first as is_first
from .finetuned_model import finetune as finetune
from .recipe import Recipe as Recipe
from .resumable_run import run_folder as run_folder
from .training_log import draw_curves as draw_curves
from .training_log import epochs_of as epochs_of
from .training_log import read_logs as read_logs
