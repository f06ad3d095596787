import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ams_eval.processes import LAST_LINES, ChildProcess, ProcessFailedError, child_process, termination_as_exit

ENDLESS = "import signal, sys; print('ready', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def wait_for_end(child: ChildProcess) -> None:
    """Wait as a parent may, without taking the status from the child's own bookkeeping."""
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)


def await_ready(log: Path) -> None:
    while "ready" not in log.read_text():
        os.sched_yield()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_output_and_errors_go_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    child = ChildProcess("child", python("import sys; print('out'); print('err', file=sys.stderr)"), log)
    wait_for_end(child)
    assert child.finished()
    assert sorted(log.read_text().split()) == ["err", "out"]


def test_a_running_process_has_not_finished(tmp_path: Path) -> None:
    with child_process("child", python(ENDLESS), tmp_path / "child.log") as child:
        assert not child.finished()
        child.require_running()


def test_a_failed_process_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    code = f"import sys; [print(f'line {{i}}') for i in range({LAST_LINES + 5})]; sys.exit(3)"
    child = ChildProcess("ams-server", python(code), tmp_path / "server.log")
    wait_for_end(child)
    with pytest.raises(ProcessFailedError, match="ams-server ended with status 3") as caught:
        child.finished()
    lines = str(caught.value).splitlines()
    assert lines[1:] == [f"  line {index}" for index in range(5, LAST_LINES + 5)]
    assert str(tmp_path / "server.log") in lines[0]


def test_a_killed_process_names_the_signal(tmp_path: Path) -> None:
    child = ChildProcess("ams-edge", python(ENDLESS), tmp_path / "edge.log")
    os.kill(child.pid, signal.SIGKILL)
    wait_for_end(child)
    with pytest.raises(ProcessFailedError, match="ams-edge was ended by signal 9"):
        child.finished()


def test_a_process_that_must_run_may_not_end_well_either(tmp_path: Path) -> None:
    child = ChildProcess("ams-server", python("pass"), tmp_path / "server.log")
    wait_for_end(child)
    assert child.finished()
    with pytest.raises(ProcessFailedError, match=r"ended by itself; .* it is empty"):
        child.require_running()


def test_a_command_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailedError, match="cannot start ams-server"):
        ChildProcess("ams-server", [str(tmp_path / "nothing")], tmp_path / "server.log")


def test_stop_asks_first(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    code = (
        "import signal, sys; signal.signal(15, lambda *_: sys.exit(print('bye')))\nprint('ready', flush=True); signal.pause()"
    )
    child = ChildProcess("child", python(code), log)
    await_ready(log)
    child.stop()
    child.stop()
    assert "bye" in log.read_text()
    assert not is_running(child.pid)


def test_stop_makes_a_stubborn_process_end(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    child = ChildProcess("child", python(STUBBORN), log)
    await_ready(log)
    child.stop(patience_s=0.01)
    assert not is_running(child.pid)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_nothing_is_left_running_whatever_happens(tmp_path: Path, error: type[BaseException]) -> None:
    pid = 0

    def run_child() -> None:
        nonlocal pid
        with child_process("child", python(ENDLESS), tmp_path / "child.log") as child:
            pid = child.pid
            assert is_running(pid)
            raise error

    with pytest.raises(error):
        run_child()
    assert not is_running(pid)


def test_settings_of_this_process_do_not_reach_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMS_STEPS", "3")
    monkeypatch.setenv("KEPT", "yes")
    log = tmp_path / "child.log"
    child = ChildProcess("child", python("import os; print('AMS_STEPS' in os.environ, os.environ['KEPT'])"), log)
    wait_for_end(child)
    assert child.finished()
    assert log.read_text().split() == ["False", "yes"]


def test_termination_of_the_parent_ends_its_child(tmp_path: Path) -> None:
    code = f"""
import signal, sys
from pathlib import Path
from ams_eval.processes import child_process, termination_as_exit
command = [sys.executable, "-c", {ENDLESS!r}]
with termination_as_exit(), child_process("child", command, Path({str(tmp_path / "log")!r})) as child:
    print(child.pid, flush=True)
    signal.pause()
"""
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGTERM)
        assert parent.wait() == 128 + signal.SIGTERM
    assert not is_running(child_pid)


def test_termination_is_handled_within_the_block_only() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with termination_as_exit():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
