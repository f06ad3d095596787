"""No package that is imported keeps files about this machine, or reports it to anybody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULES = ("ams_edge.providers", "ams_edge.agent", "ams_server.students.export", "ams_server.teachers.onnx_model")


@pytest.mark.parametrize("module", MODULES)
def test_the_home_stays_empty_when_onnx_runtime_is_imported(module: str, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "ORT_"))}
    environment["HOME"] = str(tmp_path)
    program = f"import {module}, onnxruntime; onnxruntime.SessionOptions()"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
