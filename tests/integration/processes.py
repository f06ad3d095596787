"""The two commands as real processes, for tests that need them."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.05


class Process:
    """A command of the product that runs, with its log and its events in a folder."""

    def __init__(self, module: str, folder: Path, arguments: list[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.events_path = folder / "events.jsonl"
        self.log_path = folder / "log.txt"
        code = f"import sys; from {module} import main; sys.exit(main())"
        command = [sys.executable, "-c", code, *arguments, "--events", str(self.events_path)]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    @property
    def log(self) -> str:
        """Everything that the process has printed so far."""
        return self.log_path.read_text(encoding="utf-8")

    def events(self, name: str) -> list[dict[str, object]]:
        """Return the events of that name so far."""
        if not self.events_path.exists():
            return []
        lines = self.events_path.read_text(encoding="utf-8").splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event for event in found if event["event"] == name]

    def wait_for(self, name: str, count: int = 1, timeout_s: float = START_TIMEOUT_S) -> list[dict[str, object]]:
        """Wait until `count` events of that name are there, and return them."""
        deadline_s = time.monotonic() + timeout_s
        while len(found := self.events(name)) < count:
            assert self.process.poll() is None, f"ended with {self.process.returncode} before {name!r}:\n{self.log}"
            assert time.monotonic() < deadline_s, f"no {name!r} within {timeout_s} s:\n{self.log}"
            time.sleep(POLL_S)
        return found

    def wait(self, timeout_s: float) -> int:
        """Wait for the end and return the exit status."""
        return self.process.wait(timeout_s)

    def terminate(self) -> int:
        """Ask the process to end, as a supervisor does, and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_TIMEOUT_S)


@contextmanager
def running(module: str, folder: Path, arguments: list[str]) -> Iterator[Process]:
    """Run a command while the block lasts; whatever happens it is gone afterwards."""
    process = Process(module, folder, arguments)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.wait()


@contextmanager
def server(folder: Path, arguments: list[str]) -> Iterator[tuple[Process, str]]:
    """Run `ams-server` on a free port of loopback; yield it with its address."""
    listen = [] if "--listen" in arguments else ["--listen", "127.0.0.1:0"]
    with running("ams_server.daemon", folder, [*listen, *arguments]) as process:
        port = process.wait_for("listening")[0]["port"]
        yield process, f"127.0.0.1:{port}"


def edge(folder: Path, address: str, state: Path, arguments: list[str]) -> AbstractContextManager[Process]:
    """Run `ams-edge` against the server at `address`, with its stored model in `state`."""
    device = ["--server", address, "--state-folder", str(state), "--device-id", "test-device"]
    return running("ams_edge.command", folder, [*device, *arguments])
