"""A training by Lightning that says nothing on the page and leaves torch's random generators as they were.

What one of several processes raised comes back as text; an error of ours, or one of memory, is raised again as itself.
"""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from emseg.errors import InputError, UsageError

_RAISED = re.compile(
    r"^(emseg\.errors\.UsageError|emseg\.errors\.InputError|torch\.OutOfMemoryError): (.*)", re.MULTILINE
)
_ERRORS = {error.__name__: error for error in (UsageError, InputError, torch.OutOfMemoryError)}


@contextmanager
def quiet_lightning(device: torch.device) -> Iterator[None]:
    """Keep Lightning's remarks from the page, and torch's generators as they were."""
    import lightning.pytorch  # noqa: F401 - it sets its loggers' levels when it is imported

    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    gpus = list(range(torch.cuda.device_count())) if device.type == "cuda" else []
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with torch.random.fork_rng(devices=gpus), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except torch.multiprocessing.ProcessRaisedException as error:  # type: ignore[attr-defined]
        raised = _RAISED.findall(str(error))
        if not raised:
            raise
        name, message = raised[-1]
        raise _ERRORS[name.rpartition(".")[2]](message) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
