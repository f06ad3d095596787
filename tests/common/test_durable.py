import os
from pathlib import Path

import pytest

from ams_common.durable import sync_folder


def test_the_folder_is_flushed_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    flush = os.fsync

    def note(descriptor: int) -> None:
        flush(descriptor)
        assert os.path.samestat(os.fstat(descriptor), tmp_path.stat())
        flushed.append(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    sync_folder(tmp_path)
    (descriptor,) = flushed
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "absent")
