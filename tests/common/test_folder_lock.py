"""A folder is one process's own, and free again however that ended."""

import subprocess
import sys
from pathlib import Path

import pytest

from ams_common.errors import ConfigurationError
from ams_common.folder_lock import FolderLock

HOLD = """
import sys
from pathlib import Path
from ams_common.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), "taken")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_folder_that_another_process_holds_is_refused_until_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigurationError, match=r"^somebody has it$"):
            FolderLock(folder, "somebody has it")
        holder.kill()
        holder.wait()
        lock = FolderLock(folder, "somebody has it")
    lock.close()
    lock.close()
    FolderLock(folder, "it was not let go").close()


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"cannot write to --state-folder '.*/file/folder': "):
        FolderLock(tmp_path / "file" / "folder", "taken")
