"""What an earlier run wrote: a program that starts again must not lose it, and not stay out for it."""

import logging
from itertools import count
from pathlib import Path

from ams_common.errors import ConfigurationError, system_reason

_log = logging.getLogger(__name__)


def set_aside(path: Path, flag: str) -> None:
    """Give the file or folder `path`, which `flag` names, the first free name of the kind NAME-1, NAME-2, ...

    Raises:
        ConfigurationError: it cannot be renamed.
    """
    real = path.resolve()
    free = next(other for number in count(1) if not (other := real.with_stem(f"{real.stem}-{number}")).exists())
    try:
        real.rename(free)
    except OSError as error:
        reason = system_reason(error)
        raise ConfigurationError(f"cannot keep what is in {flag} {str(path)!r} as {str(free)!r}: {reason}") from error
    _log.info("what was in %s is now %s", path, free)
