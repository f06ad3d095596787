import socket
from pathlib import Path

import pytest

from ams_common.errors import ConfigurationError
from ams_common.settings import load_settings
from ams_edge.settings import AgentSettings, require_source_kept


def load(*arguments: str) -> AgentSettings:
    return load_settings(AgentSettings, ["--source", "video.mp4", *arguments])


def test_a_source_is_all_that_is_needed() -> None:
    settings = load()
    assert (settings.source, settings.server, settings.uplink_kbps, settings.provider) == (
        "video.mp4",
        "localhost:50051",
        0.0,
        "auto",
    )
    with pytest.raises(ConfigurationError, match="--source is required"):
        load_settings(AgentSettings, [])


@pytest.mark.parametrize(
    ("host", "device_id"),
    [("camera-7.example.org", "camera-7.example.org"), ("_gate 3ü", "gate-3"), ("---", "device"), ("x" * 80, "x" * 64)],
)
def test_a_device_is_called_as_its_machine(monkeypatch: pytest.MonkeyPatch, host: str, device_id: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert load().device_id == device_id


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device-id", "../etc"], "--device-id=../etc: must be 1 to 64 letters, digits"),
        (["--device-id", ""], "--device-id=: must be 1 to 64 letters, digits"),
        (["--uplink-kbps", "-1"], "--uplink-kbps=-1: input should be greater than or equal to 0"),
        (["--uplink-kbps", "inf"], "--uplink-kbps=inf: input should be less than or equal to 1000000000"),
        (["--downlink-kbps", "nan"], "--downlink-kbps=nan: must be a number"),
        (["--server", "example.org"], "--server=example.org: must be host:port"),
        (["--server", "example.org:0"], "--server=example.org:0: nothing can be reached at port 0: name the port that"),
        (["--provider", "gpu"], "--provider=gpu: input should be 'auto', 'cpu', 'xnnpack', "),
        (["--fats"], "unrecognized arguments: --fats (did you mean --fast? --help lists all settings)"),
        (["--uplink-kbs=200"], "unrecognized arguments: --uplink-kbs=200 (did you mean --uplink-kbps? --help lists"),
        (["--zzz", "1"], "unrecognized arguments: --zzz 1 (--help lists all settings)"),
    ],
)
def test_a_mistake_is_named_in_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(*arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_environment_and_a_file_say_the_same_as_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "edge.toml"
    path.write_text('server = "gpu:1"\nuplink_kbps = 200\nfast = true\nlabels = "out"\n')
    monkeypatch.setenv("AMS_UPLINK_KBPS", "150")
    settings = load("--config", str(path), "--labels", "elsewhere")
    assert (settings.server, settings.uplink_kbps, settings.fast, settings.labels) == ("gpu:1", 150.0, True, Path("elsewhere"))


@pytest.mark.parametrize("flag", ["--overlay", "--events"])
def test_the_recording_that_is_played_is_never_overwritten(tmp_path: Path, flag: str) -> None:
    recording = tmp_path / "drive.mp4"
    recording.write_bytes(b"a film")
    link = tmp_path / "link.mp4"
    link.symlink_to(recording)
    for output in (recording, link):
        settings = load_settings(AgentSettings, ["--source", str(recording), flag, str(output)])
        with pytest.raises(ConfigurationError, match=f"{flag} '.*' would overwrite --source"):
            require_source_kept(settings)
    require_source_kept(load_settings(AgentSettings, ["--source", str(recording), flag, str(tmp_path / "other.mp4")]))
    require_source_kept(load_settings(AgentSettings, ["--source", "rtsp://camera/", flag, str(recording)]))


def test_a_path_that_cannot_be_looked_at_is_left_to_whoever_opens_it(tmp_path: Path) -> None:
    unusable = str(tmp_path / ("x" * 300))
    for source, overlay in ((unusable, str(tmp_path)), (str(tmp_path), unusable)):
        require_source_kept(load_settings(AgentSettings, ["--source", source, "--overlay", overlay]))
