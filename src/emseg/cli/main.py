"""Entry point of `emseg`: dispatches to subcommands and turns every error into one sentence and an exit code.

A subcommand is a module in this package with `add_parser(subparsers)`, which sets `handler=` to a function
`(argparse.Namespace) -> int`. Heavy imports belong inside the handler, so that `emseg --help` stays quick.
"""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from emseg import __version__
from emseg.cli import book, data, score, sharpness, wafer
from emseg.errors import InputError, UsageError

BOOK_PACKAGES = {"IPython", "ipykernel", "ipywidgets", "jupyter_book", "snakemake", "sphinx"}
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_SIGNAL = 128  # plus the signal's number, as shells have it


class _Stopped(KeyboardInterrupt):
    """A signal's number; a bare KeyboardInterrupt inside code that C runs would make Python end itself with SIGINT."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="emseg",
        description="From Wafer to Membrane: run the book's chapters and use its tools.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"emseg {__version__}")
    parser.add_argument("--debug", action="store_true", help="print the traceback of an error")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (book, data, sharpness, score, wafer):
        module.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 failed, 2 wrongly asked."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--debug" in arguments:  # allowed before and after the subcommand
        arguments.remove("--debug")
        return _handler(arguments)
    try:
        with _stopping_signals(embedded=argv is not None):
            return _handler(arguments)
    except UsageError as error:
        return _complain(error, EXIT_USAGE)
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone; that is no error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except (InputError, OSError) as error:
        return _complain(error, EXIT_FAILURE)
    except ModuleNotFoundError as error:  # installed without extras
        package = (error.name or "").split(".")[0]
        repair = f'pip install "emseg[{"book" if package in BOOK_PACKAGES else "networks"}]"'
        return _complain(f"this command needs the package {package}, which is not installed. {repair}", EXIT_FAILURE)
    except KeyboardInterrupt as stop:
        number = signal.Signals(stop.args[0] if stop.args else signal.SIGINT)
        cause = "" if number == signal.SIGINT else f" by {number.name}"
        return _complain(f"interrupted{cause}; finished results are kept", EXIT_SIGNAL + number)
    except Exception as error:
        return _complain(f"{type(error).__name__}: {error} (run again with --debug to see where)", EXIT_FAILURE)


@contextmanager
def _stopping_signals(embedded: bool) -> Iterator[None]:
    """Let SIGTERM (`scancel`, `kill`) and SIGHUP (a closed terminal) stop a command like Ctrl-C, and each only once.

    A process that has done its work ignores them until it has ended; one that `embedded` this call gets its own back.
    """
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [number for name in names if signal.getsignal(number := getattr(signal, name)) != signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        numbers = []

    def stop(number: int, frame: Any) -> None:
        for one in numbers:
            signal.signal(one, signal.SIG_IGN)  # cleaning up takes seconds and is not to be interrupted
        logging.disable()  # of event loops that are left in the middle
        raise _Stopped(number)

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if embedded else signal.SIG_IGN)


def _handler(arguments: list[str]) -> int:
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    namespace = parser.parse_args(arguments)
    return int(namespace.handler(namespace))


def _complain(message: object, code: int) -> int:
    print(f"emseg: {message}", file=sys.stderr)
    return code
