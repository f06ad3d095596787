"""What is said of errors."""

import errno

from ams_common.errors import system_reason


def test_what_the_system_says_is_told_without_its_number() -> None:
    assert system_reason(OSError(errno.ENOSPC, "No space left on device", "/some/file")) == "no space left on device"
    assert system_reason(OSError("The camera is gone")) == "the camera is gone"
    assert system_reason(OSError()) == "oserror"
