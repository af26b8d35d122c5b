"""The two ways a caller can be wrong, and what the command line makes of them.

`UsageError`  the request is invalid: an unknown parameter, a wrong type, a value out of range. Exit code 2.
`InputError`  what was handed over cannot be used: a truncated file, an image with NaN, a missing data set. Exit code 1.

Both are `ValueError`, so library users need not know them. Every message is one sentence or two that state the
invariant, what came and the repair; the command line prints it as it is, without a traceback.
"""

import difflib
from collections.abc import Iterable


class _LineError(ValueError):
    """A message of one line, whatever the names and values in it contain."""

    def __init__(self, message: object = "") -> None:
        super().__init__(" ".join(str(message).splitlines()))


class UsageError(_LineError):
    """The request itself is wrong; nothing was started."""


class InputError(_LineError):
    """A file or an array that was handed over cannot be used."""


def suggest(name: str, allowed: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the allowed name nearest to `name`, or an empty string when none is near."""
    near = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
