"""The command line. One file per command; whatever is heavy loads inside the command."""

from atento.cli.app import main

__all__ = ["main"]
