"""Read weights from files of every common format."""
