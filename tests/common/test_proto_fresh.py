"""The checked-in protobuf code is what the generator makes of protos/."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATOR = ROOT / ".venv-proto" / "bin" / "python"


@pytest.mark.skipif(not GENERATOR.exists(), reason="no generator of protobuf code: `make protos` installs one")
def test_generated_code_is_fresh() -> None:
    command = [str(GENERATOR), str(ROOT / "scripts" / "generate_protos.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_generated_code_imports_without_warnings() -> None:
    code = "import ams_common.proto.adaptation_pb2_grpc"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
