"""A folder for what a program keeps, which belongs to one process at a time."""

import logging
import sys
from pathlib import Path

from ams_common.errors import ConfigurationError, system_reason

if sys.platform != "win32":
    import fcntl

_NAME = "lock"

_log = logging.getLogger(__name__)


class FolderLock:
    """Holds a folder from when it is made until `close`; the system lets go of it whatever ends the process."""

    def __init__(self, folder: Path, taken: str) -> None:
        """Take `folder`, which is made where it is missing.

        Raises:
            ConfigurationError: another process has it, which is then told as `taken`, or its file cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / _NAME).open("ab")
        except OSError as error:
            raise ConfigurationError(f"cannot write to --state-folder {str(folder)!r}: {system_reason(error)}") from error
        try:
            _take(self._file.fileno())
        except BlockingIOError as error:
            self._file.close()
            raise ConfigurationError(taken) from error
        except OSError as error:
            # A network's file system may have no locks; what can be checked is.
            _log.debug("cannot lock %s: %s", folder, system_reason(error))

    def close(self) -> None:
        """Let go of the folder; may be called twice."""
        self._file.close()


def _take(descriptor: int) -> None:
    if sys.platform != "win32":
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
