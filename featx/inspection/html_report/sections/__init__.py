"""The sections of a report: a module each, which finds out what it shows."""
