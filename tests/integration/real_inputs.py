"""Real video, labels and weights beside the repository, for tests that skip themselves without them."""

from pathlib import Path

import pytest

DATA = Path(__file__).parents[2].parent / "shared" / "data"
STREAMS, MODELS = DATA / "streams", DATA / "models"


def require(*paths: Path) -> None:
    """Skip the test that calls this where one of the files is not there."""
    for path in paths:
        if not path.exists():
            pytest.skip(f"needs {path.name}, which is not beside the repository")
