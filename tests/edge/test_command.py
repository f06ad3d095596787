import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ams_common.errors import ConfigurationError, SourceError
from ams_edge import command
from ams_edge.settings import AgentSettings


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the log and the signal handlers of this process as they were."""
    monkeypatch.setattr(command, "configure_logging", lambda verbose: None)
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    yield
    for number, handler in handlers:
        signal.signal(number, handler)


class FakeAgent:
    """Yields frames until it is told to stop, and gets a signal at the third."""

    number = signal.SIGTERM

    def __init__(self, settings: AgentSettings) -> None:
        assert settings.source == "video.mp4"
        self.frames = 0
        self.stopped = self.closed = False

    def __enter__(self) -> "FakeAgent":
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True
        assert (self.frames, self.stopped) == (3, True)

    def __iter__(self) -> Iterator[int]:
        while not self.stopped:
            self.frames += 1
            if self.frames == 3:
                signal.raise_signal(self.number)
            yield self.frames

    def stop(self) -> None:
        self.stopped = True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_agent_after_the_frame_in_hand(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    monkeypatch.setattr(command, "Agent", FakeAgent)
    monkeypatch.setattr(FakeAgent, "number", number)
    assert command.run(["--source", "video.mp4"]) == 0


def test_sighup_reads_the_budgets_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "edge.toml"
    file.write_text('source = "video.mp4"\nuplink_kbps = 200\n', encoding="utf-8")
    budgets: list[tuple[float, float]] = []

    class Reloaded(FakeAgent):
        def __iter__(self) -> Iterator[int]:
            for text in ("uplink_kbps = 50", "uplink_kbps = -50", "uplink_kbps = "):
                file.write_text(f'source = "video.mp4"\n{text}\n', encoding="utf-8")
                signal.raise_signal(signal.SIGHUP)
            self.frames, self.stopped = 3, True
            yield 3

        def set_budgets(self, *, uplink_kbps: float, downlink_kbps: float) -> None:
            budgets.append((uplink_kbps, downlink_kbps))

    monkeypatch.setattr(command, "Agent", Reloaded)
    assert command.run(["--config", str(file), "--downlink-kbps", "90"]) == 0
    assert budgets == [(50.0, 90.0)], "flags win over the file still"
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["the settings stay as they are"] * 2


def test_sighup_tells_what_of_the_file_does_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "edge.toml"
    file.write_text('source = "video.mp4"\nuplink_kbps = 200\ndownlink_kbps = 90\n', encoding="utf-8")
    monkeypatch.setenv("AMS_UPLINK_KBPS", "60")

    class Reloaded(FakeAgent):
        def __iter__(self) -> Iterator[int]:
            signal.raise_signal(signal.SIGHUP)
            file.write_text('source = "video.mp4"\ndownlink_kbps = 80\nskip_below = 0.08\nfast = true\n', encoding="utf-8")
            signal.raise_signal(signal.SIGHUP)
            self.frames, self.stopped = 3, True
            yield 3

        def set_budgets(self, *, uplink_kbps: float, downlink_kbps: float) -> None:
            assert (uplink_kbps, downlink_kbps) == (60.0, 90.0)

    monkeypatch.setattr(command, "Agent", Reloaded)
    assert command.run(["--config", str(file), "--downlink-kbps", "90"]) == 0
    assert caplog.messages == [
        f"AMS_UPLINK_KBPS wins over {file}, until a start without it",
        f"--downlink-kbps wins over {file}, until a start without it",
        "only budgets are read again; these have changed too and wait for the next start: skip_below, fast",
    ]


def test_what_a_person_must_mend_is_raised(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"absent\.mp4"):
        command.run(["--source", str(tmp_path / "absent.mp4"), "--state-folder", str(tmp_path)])


@pytest.mark.parametrize("word", ["provision", "drive.mp4"])
def test_a_word_without_a_flag_is_told_where_it_belongs(word: str) -> None:
    with pytest.raises(ConfigurationError, match=f"unknown argument '{word}': --source names .* provision are subcommands"):
        command.run([word, "--out", "model.ams"])


def test_the_command_reports_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["ams-edge", "--source", str(tmp_path / "absent.mp4"), "--state-folder", str(tmp_path)])
    assert command.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ams-edge: ")
