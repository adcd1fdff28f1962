from .distributed import is_main_process as is_main_process
from .finetuned_model import FinetuneReport as FinetuneReport
from .finetuned_model import finetune as finetune
from .recipe import Recipe as Recipe
from .resumable_run import run_folder as run_folder
from .training_curves import count_epochs as count_epochs
from .training_curves import plot_training_curves as plot_training_curves
from .training_log import read_logs as read_logs
