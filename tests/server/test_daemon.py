import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.server.session_support import HEIGHT, WIDTH, small_model

from ams_common.classes import CAMVID11, CITYSCAPES19, STREET7, VOC21
from ams_common.errors import AmsError, ConfigurationError
from ams_common.events import read_events
from ams_common.folder_lock import FolderLock
from ams_common.settings import load_settings
from ams_server import daemon as daemon_module
from ams_server.daemon import check_teachable, choose_device, run, warn_of_short_buffer
from ams_server.scheduler import Scheduler
from ams_server.settings import ServerSettings

POLL_S = 0.01
TIMEOUT_S = 60.0


@pytest.fixture(autouse=True)
def quick_start(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use the model that other tests have made, and leave log and threads of this process as they were."""
    monkeypatch.setattr(daemon_module, "starting_model", lambda settings: small_model())
    monkeypatch.setattr(daemon_module, "configure_logging", lambda verbose: None)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    np.savez(tmp_path / "labels.npz", labels=np.zeros((2, HEIGHT, WIDTH), np.uint8))
    return [
        *("--teacher", f"labels:{tmp_path / 'labels.npz'}", "--teacher-labels-hz", "1", "--device", "cpu", "--threads", "1"),
        *("--student", "jitnet-quarter", "--student-width", str(WIDTH), "--student-height", str(HEIGHT)),
        *("--class-set", "street7", "--classes", "road,sky", "--teacher-classes", "street7"),
        *("--listen", "127.0.0.1:0", "--events", str(tmp_path / "events.jsonl")),
    ]


def send_signal_once_it_listens(events: Path, number: int) -> threading.Thread:
    def wait_and_send() -> None:
        deadline_s = time.monotonic() + TIMEOUT_S
        while not events.exists() or not read_events(events):
            assert time.monotonic() < deadline_s
            time.sleep(POLL_S)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait_and_send)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_daemon_listens_until_it_is_told_to_stop(arguments: list[str], tmp_path: Path, number: int) -> None:
    thread = send_signal_once_it_listens(tmp_path / "events.jsonl", number)
    assert run(arguments) == 0
    thread.join()
    (event,) = read_events(tmp_path / "events.jsonl")
    assert event["event"] == "listening"
    assert isinstance(event["port"], int)
    assert event["port"] > 0
    assert "worker" not in {each.name for each in threading.enumerate()}


def test_the_start_says_what_learns_from_what(arguments: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    thread = send_signal_once_it_listens(tmp_path / "events.jsonl", signal.SIGTERM)
    run([*arguments, "--precision", "fp32"])
    thread.join()
    assert "jitnet-quarter learns from labels:" in caplog.text
    assert "on cpu in float32" in caplog.text
    assert "classes road, sky" in caplog.text


def test_a_worker_that_fails_ends_the_process(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(scheduler: Scheduler) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(Scheduler, "_next_turn", fail)
    with caplog.at_level(logging.INFO), pytest.raises(AmsError, match="the worker has failed: MemoryError: no room"):
        run(arguments)
    assert "no room" not in caplog.text  # what is raised is told in the end, and not before as well


def test_an_address_in_use_ends_the_start_and_the_worker(arguments: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match="another program uses this port, choose another with --listen"):
            run([*arguments, "--listen", f"127.0.0.1:{taken.getsockname()[1]}"])
    assert "worker" not in {each.name for each in threading.enumerate()}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--listen", "127.0.0.1:{port}"], "another program uses this port, choose another with --listen"),
        (["--admin-listen", "127.0.0.1:{port}"], "another program uses this port, choose another with --admin-listen"),
        (["--classes", "unicorn"], "unknown class 'unicorn'"),
        (
            ["--max-uplink-kbps", "1"],
            "^with --max-uplink-kbps 1 a device has 1 kbit/s up, 4 kbit/s down: uplink budget of 1 kbit/s carries nothing",
        ),
        (
            ["--max-uplink-kbps", "9", "--total-downlink-kbps", "2"],
            "^with --max-uplink-kbps 9 --total-downlink-kbps 2 a device has 9 kbit/s up, 2 kbit/s down: "
            "downlink budget of 2 kbit/s .* the least is 2.2 kbit/s",
        ),
    ],
)
def test_a_person_need_not_wait_for_models_to_hear_of_a_mistake(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, flags: list[str], message: str
) -> None:
    monkeypatch.setattr(daemon_module, "create_teacher", lambda *_: pytest.fail("a model was loaded first"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match=message):
            run([*arguments, *(each.format(port=taken.getsockname()[1]) for each in flags)])


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], []),
        (["--max-sampling-hz=60"], []),
        (
            ["--horizon-s=900", "--max-sampling-hz=20", "--student-width=1024", "--student-height=512"],
            [
                "training looks back 26 s instead of horizon_s=900 where max_sampling_hz=20 is reached: "
                "512 frames of 1024x512 are what 1024 MiB for a device hold"
            ],
        ),
    ],
)
def test_a_horizon_that_does_not_fit_into_memory_is_told(
    flags: list[str], told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_short_buffer(load_settings(ServerSettings, ["--student-width=64", "--student-height=64", *flags]))
    assert caplog.messages == told


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--device", "tpu"], "cannot compute on device 'tpu'"),
        (["--teacher", "oracle"], "unknown teacher 'oracle'"),
        (["--teacher-classes", "nature"], "unknown class set 'nature'"),
        (["--events", "/proc/nowhere/events.jsonl"], "cannot write the event log"),
    ],
)
def test_what_is_wrong_shows_before_the_first_device_comes(arguments: list[str], flags: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        run([*arguments, *flags])
    assert "\n" not in str(caught.value)


def test_two_servers_do_not_share_a_folder_for_sessions(arguments: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    other = FolderLock(folder, "taken")
    with pytest.raises(
        ConfigurationError, match=r"another ams-server uses --state-folder .*sessions': give each a folder of its own"
    ):
        run([*arguments, "--state-folder", str(folder)])
    other.close()
    stopping = send_signal_once_it_listens(tmp_path / "events.jsonl", signal.SIGTERM)
    assert run([*arguments, "--state-folder", str(folder)]) == 0
    stopping.join()
    FolderLock(folder, "it is still held").close()


def test_devices_are_chosen_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("", "cuda:99", "gpu"):
        with pytest.raises(ConfigurationError, match="cannot compute on device") as caught:
            choose_device(name)
        assert "\n" not in str(caught.value)


def test_classes_that_the_teacher_never_names_are_told(caplog: pytest.LogCaptureFixture) -> None:
    check_teachable(CITYSCAPES19, STREET7)
    assert not caplog.messages
    check_teachable(VOC21, CITYSCAPES19.subset(["sky", "person", "car"]))
    assert caplog.messages == ["the teacher never names sky: the student cannot learn what it looks like"]


def test_a_teacher_that_names_no_class_of_the_student_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="names none of the classes boat, sofa"):
        check_teachable(CAMVID11, VOC21.subset(["boat", "sofa"]))


def test_a_folder_for_sessions_that_cannot_be_used_is_told_at_the_start(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot write to --state-folder") as caught:
        run([*arguments, "--state-folder", str(tmp_path / "file" / "sessions")])
    assert "\n" not in str(caught.value)
