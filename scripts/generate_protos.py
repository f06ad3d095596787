"""Generate the protobuf code in common/ams_common/proto from protos/; `--check` only compares it with what is checked in.

Run it with an interpreter that has grpcio-tools and mypy-protobuf (`make protos` has one of its own): these need an older
protobuf than the product may use, and their output runs on all that it may.
"""

import argparse
import importlib.resources
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "protos"
PACKAGE = Path("ams_common", "proto")
CHECKED_IN = ROOT / "common"


def generate(target: Path) -> None:
    """Write the modules and their stubs under `target`/ams_common/proto.

    Raises:
        subprocess.CalledProcessError: the compiler refused a file; it has said why on stderr.
    """
    plugin = Path(sys.executable).with_name("protoc-gen-mypy")
    arguments = [
        f"-I{PACKAGE.as_posix()}={SOURCE}",
        f"-I{importlib.resources.files('grpc_tools') / '_proto'}",
        f"--plugin=protoc-gen-mypy={plugin}",
        f"--plugin=protoc-gen-mypy_grpc={plugin}_grpc",
        *(f"--{kind}_out={target}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
        *(str(PACKAGE / file.name) for file in sorted(SOURCE.glob("*.proto"))),
    ]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True)


def stale_files() -> list[str]:
    """Return the names of generated files that differ from the checked-in ones, are missing there or do not belong there."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh, present = _contents(Path(folder)), _contents(CHECKED_IN)
    return sorted(name for name in fresh.keys() | present.keys() if fresh.get(name) != present.get(name))


def _contents(root: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (root / PACKAGE).glob("*_pb2*.py*") if file.is_file()}


def main() -> int:
    """Generate or check; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the checked-in code is not fresh")
    if not parser.parse_args().check:
        generate(CHECKED_IN)
        return 0
    stale = stale_files()
    if stale:
        print(f"generate_protos: {', '.join(stale)} not fresh: run `make protos` and commit the result", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
