import json
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.evaluation.demo_results import NO_LOG, run_log, swap

from ams_eval.run_log import Event, EventTail, RunLogError, read_run


def written(path: Path, *events: Event) -> Path:
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def test_a_tail_reads_each_event_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert tail.read() == []
    written(path, {"event": "a"}, {"event": "b"})
    assert tail.read() == [{"event": "a"}, {"event": "b"}]
    assert tail.read() == []


def test_a_tail_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "a"}\n{"event": "\xc3')
    tail = EventTail(path)
    assert tail.read() == [{"event": "a"}]
    with path.open("ab") as file:
        file.write(b'\xa9"}\n')
    assert tail.read() == [{"event": "é"}]


def test_a_run_is_read_from_both_logs(tmp_path: Path) -> None:
    expected = run_log()
    edge = written(
        tmp_path / "edge.jsonl",
        {"event": "connected", "time_s": 1.0},
        *({"event": "statistics", "frames": 10, **asdict(each)} for each in expected.seconds),
        *({"event": "swap", **asdict(each)} for each in expected.swaps),
        *({"event": "batch", "batch_id": 1, **asdict(each)} for each in expected.batches),
    )
    server = written(
        tmp_path / "server.jsonl",
        {"event": "batch", "frames": 3},
        {"event": "update", "version": 1, "update_interval_s": 5.0},
        {"event": "update", "version": 2, "update_interval_s": 7.0},
    )
    assert read_run(edge, server) == expected


def test_a_log_of_another_version_is_refused(tmp_path: Path) -> None:
    edge = written(tmp_path / "edge.jsonl", {"event": "swap", "version": 1})
    with pytest.raises(RunLogError, match=r"an event in .*edge\.jsonl or .* lacks 'time_s'"):
        read_run(edge, written(tmp_path / "server.jsonl"))


def test_capture_time_starts_where_the_most_punctual_report_says() -> None:
    log = run_log()
    assert log.clock_offset_s == 100.0
    assert log.swap_capture_s(log.swaps[0]) == 2.5
    assert log.swap_capture_s(swap(1, 99.0, None)) == 0.0
    assert NO_LOG.clock_offset_s == 0.0


def test_inference_time_is_taken_over_all_frames() -> None:
    log = run_log()
    assert log.inference_ms(0.5) == 5.0
    assert log.inference_ms(1.0) == 6.0
    assert NO_LOG.inference_ms(0.5) != NO_LOG.inference_ms(0.5)
