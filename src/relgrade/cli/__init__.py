"""The command line. Importing it costs click alone; each command brings what it needs when it runs."""

from relgrade.cli.main import main

__all__ = ["main"]
