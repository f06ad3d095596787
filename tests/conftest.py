"""Settings of all tests."""

import logging
import os
from collections.abc import Iterator

import pytest

# Tests run on machines with few cores: two threads that fight for one core are slower than one.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


@pytest.fixture(autouse=True)
def _log_levels() -> Iterator[None]:
    """Take back the log levels that a command sets, which runs within the tests' process here."""
    loggers = [logging.getLogger(name) for name in ("ams_server", "ams_edge")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
