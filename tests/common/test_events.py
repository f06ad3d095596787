"""The event log."""

import json
import threading
from pathlib import Path

import pytest

from ams_common.clock import ManualClock
from ams_common.errors import ConfigurationError
from ams_common.events import EventLog, read_events


def test_events_come_back_in_order_with_their_times(tmp_path: Path) -> None:
    clock = ManualClock(1.0)
    path = tmp_path / "made" / "here" / "events.jsonl"
    log = EventLog(path, clock)
    log.write("swap", version=3, losses=[0.5, 0.25], name="ü", done=True, nothing=None)
    clock.sleep(0.12345678)
    log.write("stop")
    assert read_events(path) == [
        {"event": "swap", "time_s": 1.0, "version": 3, "losses": [0.5, 0.25], "name": "ü", "done": True, "nothing": None},
        {"event": "stop", "time_s": 1.123457},
    ]
    log.close()


def test_a_log_without_a_path_swallows_everything() -> None:
    log = EventLog(None, ManualClock())
    log.write("swap", version=3)
    log.close()
    log.close()


def test_closing_twice_and_writing_afterwards_are_harmless(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", ManualClock())
    log.write("first")
    log.close()
    log.close()
    log.write("late")
    assert [event["event"] for event in read_events(tmp_path / "events.jsonl")] == ["first"]


def test_a_new_log_leaves_the_earlier_ones_beside_it(tmp_path: Path) -> None:
    for event in ("first", "second", "third"):
        log = EventLog(tmp_path / "events.jsonl", ManualClock())
        log.write(event)
        log.close()
    found = {path.name: [event["event"] for event in read_events(path)] for path in tmp_path.iterdir()}
    assert found == {"events.jsonl": ["third"], "events-1.jsonl": ["first"], "events-2.jsonl": ["second"]}


def test_an_empty_log_is_not_kept(tmp_path: Path) -> None:
    for _ in range(2):
        EventLog(tmp_path / "events.jsonl", ManualClock()).close()
    assert [path.name for path in tmp_path.iterdir()] == ["events.jsonl"]


def test_a_last_line_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps({"event": "whole", "time_s": 1.0}) + '\n{"event": "cut', encoding="utf-8")
    assert read_events(path) == [{"event": "whole", "time_s": 1.0}]


def test_lines_of_several_threads_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path, ManualClock())

    def write_often(name: str) -> None:
        for number in range(100):
            log.write(name, number=number)

    threads = [threading.Thread(target=write_often, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    events = read_events(path)
    assert len(events) == 300
    assert [event["number"] for event in events if event["event"] == "b"] == list(range(100))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the always full device of Linux")
def test_a_full_disk_costs_one_warning_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    log = EventLog(Path("/dev/full"), ManualClock())
    log.write("first")
    log.write("second")
    log.close()
    log.close()
    assert [record.getMessage() for record in caplog.records] == ["the event log has stopped: no space left on device"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "events.jsonl"):
        with pytest.raises(ConfigurationError, match=r"cannot write the event log '.*': \w+"):
            EventLog(path, ManualClock())


def test_what_is_no_log_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    for content in ('source = "drive.mp4"', '{"name": 3}', "{"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ConfigurationError, match=r"cannot write the event log '.*edge\.toml': it holds something else"):
            EventLog(path, ManualClock())
        assert path.read_text(encoding="utf-8") == content
    path.write_text("", encoding="utf-8")
    EventLog(path, ManualClock()).close()
