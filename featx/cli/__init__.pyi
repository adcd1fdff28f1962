from .group import COMMANDS as COMMANDS
from .group import main as main
