"""How commands start."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ams_common import entry

# Whoever runs the tests may ignore interrupts, which a process inherits.
INTERRUPTED = """
import signal
from ams_common import entry
signal.signal(signal.SIGINT, signal.default_int_handler)
entry.import_module = lambda name: signal.raise_signal(signal.SIGINT)
entry.{command}()
"""


@pytest.fixture(autouse=True)
def _handler_kept() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("command", ["edge", "server", "evaluation"])
def test_an_interrupt_during_the_imports_is_silent(command: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(command=command)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (process.returncode, process.stdout, process.stderr) == (-signal.SIGINT, "", "")


def handler_within(command: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> object:
    """Return what takes SIGINT while `command` runs, and see that its status is returned."""
    found: list[object] = []

    def main() -> int:
        found.append(signal.getsignal(signal.SIGINT))
        return 7

    monkeypatch.setattr(entry, "import_module", lambda name: SimpleNamespace(main=main))
    assert command() == 7
    return found[0]


def test_an_evaluation_is_interrupted_as_python_does(monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert handler_within(entry.evaluation, monkeypatch) is signal.default_int_handler


@pytest.mark.parametrize("command", [entry.edge, entry.server, entry.evaluation])
def test_an_interrupt_that_is_ignored_stays_so(command: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert handler_within(command, monkeypatch) is signal.SIG_IGN


def test_an_edge_that_is_told_to_reload_while_it_starts_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def main() -> int:
        signal.raise_signal(signal.SIGHUP)
        return 7

    monkeypatch.setattr(entry, "import_module", lambda name: SimpleNamespace(main=main))
    assert entry.edge() == 7


def test_every_command_starts_here() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    for name, function in (("ams-server", "server"), ("ams-edge", "edge"), ("ams-eval", "evaluation")):
        assert f'\n{name} = "ams_common.entry:{function}"\n' in project
        assert callable(getattr(entry, function))
