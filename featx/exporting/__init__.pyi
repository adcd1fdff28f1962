from .exported_file import SUFFIXES as SUFFIXES
from .exported_file import ExportedFile as ExportedFile
from .exported_file import export as export
