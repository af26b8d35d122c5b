"""The `emseg` command: one module a subcommand, each with `add_parser` and `run`."""

from emseg.cli.main import main

__all__ = ["main"]
