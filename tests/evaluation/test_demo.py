import io
from pathlib import Path

import pytest
from av.error import FFmpegError
from rich.console import Console
from tests.edge.videos import tenths, write_video

from ams_common.clock import ManualClock
from ams_common.errors import AmsError, ConfigurationError, SourceError
from ams_common.settings import load_settings
from ams_edge.settings import AgentSettings
from ams_eval import demo, demo_settings
from ams_eval.demo_recording import Recording, own_recording, street_recording
from ams_eval.demo_settings import DemoSettings, VideoShape, check_settings, command_flags, edge_settings, server_settings
from ams_eval.live import Budgets, LiveView, Progress
from ams_eval.processes import ChildProcess, ProcessFailedError
from ams_eval.world.stream import DEMO_STREAM, Phase, StreetConfig
from ams_eval.world.styles import DAY, RAIN
from ams_server.settings import ServerSettings

WIDE = VideoShape(640, 360)


def settings(*arguments: str) -> DemoSettings:
    return load_settings(DemoSettings, arguments)


def server(*arguments: str, shape: VideoShape = WIDE) -> ServerSettings:
    return server_settings(settings(*arguments), shape, Path("events.jsonl"))


def edge(*arguments: str) -> AgentSettings:
    return edge_settings(
        settings(*arguments),
        Path("video.mp4"),
        "127.0.0.1:5",
        labels=Path("labels"),
        state_folder=Path("state"),
        events=Path("edge.jsonl"),
    )


def test_the_demo_brings_its_own_models() -> None:
    made = server()
    assert (made.teacher, made.teacher_weights) == ("efficientvit-b0", demo_settings.TEACHER_WEIGHTS)
    assert (made.student, made.student_weights) == ("jitnet-quarter", demo_settings.STUDENT_WEIGHTS)
    assert made.teacher_classes == made.class_set == made.student_weights_classes == "street7"
    assert (made.student_width, made.student_height) == (256, 128)
    assert (made.frame_width, made.frame_height) == (512, 288)
    assert made.listen == "127.0.0.1:0"


def test_an_own_teacher_teaches_its_own_classes() -> None:
    made = server("--teacher=onnx:mine.onnx", "--teacher-classes=camvid11", "--classes=road", "--classes=sky")
    assert (made.teacher, made.teacher_weights, made.teacher_width) == ("onnx:mine.onnx", None, 960)
    assert (made.class_set, made.classes) == ("camvid11", ["road", "sky"])
    assert made.student_weights_classes == "street7"


def test_a_teacher_that_names_no_classes_speaks_cityscapes() -> None:
    assert server("--teacher=hf:some/model").class_set == "cityscapes19"


def test_what_is_asked_for_wins() -> None:
    made = server("--class-set=voc21", "--student=jitnet", "--steps=7", "--frame-width=320", "--teacher-width=256")
    assert (made.class_set, made.student, made.student_weights, made.steps) == ("voc21", "jitnet", None, 7)
    assert (made.frame_width, made.frame_height, made.teacher_width) == (320, 0, 256)


@pytest.mark.parametrize(
    ("shape", "student", "frames"),
    [
        (VideoShape(960, 720), (256, 192), (512, 384)),
        (VideoShape(320, 180), (256, 128), (320, 180)),
        (VideoShape(90, 1000), (256, 2816), (90, 1000)),
    ],
)
def test_sizes_follow_the_shape_of_the_video(shape: VideoShape, student: tuple[int, int], frames: tuple[int, int]) -> None:
    made = server(shape=shape)
    assert (made.student_width, made.student_height) == student
    assert (made.frame_width, made.frame_height) == frames


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--teacher=hf:x", "--classes=road", "--classes=car", "--no-adaptive-pacing"),
        ("--teacher-mean=1,2,3", "--update-interval-s=7.5"),
    ],
)
def test_the_flags_of_a_command_make_its_settings(arguments: tuple[str, ...]) -> None:
    made = server(*arguments)
    assert load_settings(ServerSettings, command_flags(made)) == made
    device = edge(*arguments)
    assert load_settings(AgentSettings, command_flags(device)) == device


def test_flags_say_only_what_is_not_usual() -> None:
    flags = command_flags(edge("--uplink-kbps=150"))
    assert "--uplink-kbps=150.0" in flags
    assert not any(flag.startswith(("--provider", "--overlay", "--verbose")) for flag in flags)


def test_settings_in_the_environment_hold_for_both_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMS_UPLINK_KBPS", "123")
    monkeypatch.setenv("AMS_STEPS", "9")
    assert edge().uplink_kbps == 123.0
    assert "--steps=9" in command_flags(server())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--video", "{folder}/none.mp4", "--teacher", "onnx:x"], "is no file"),
        (["--video", "{folder}/text.mp4"], "--video needs --teacher"),
        (["--video", "{folder}/text.mp4", "--teacher", "onnx:x"], "is no video"),
        (["--out", "{folder}/text.mp4"], "cannot write --out"),
        (["--uplink-kbps", "-1"], "--uplink-kbps=-1"),
        (["--uplink-kbps", "nan"], "--uplink-kbps=nan"),
        (["--uplink-kbps", "4"], "uplink budget of 4 kbit/s carries nothing at one update every 10 s: the least is 4.6 kbit/s"),
        (["--downlink-kbps", "0.3"], "downlink budget of 0.3 kbit/s carries nothing"),
        (["--speed", "9"], "unrecognized arguments"),
    ],
)
def test_what_is_impossible_gets_one_clear_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("no video at all")
    filled = [argument.format(folder=tmp_path) for argument in arguments]
    if not any(argument == "--out" for argument in filled):
        filled += ["--out", str(tmp_path / "out")]
    with pytest.raises((AmsError, SystemExit)) as caught:
        demo.run(filled)
    said = str(caught.value) if isinstance(caught.value, AmsError) else capsys.readouterr().err
    assert message in said
    assert "\n" not in str(caught.value)


def test_a_street_needs_no_teacher() -> None:
    check_settings(settings())


def test_a_drawn_street_has_named_scenes_and_exact_labels(tmp_path: Path) -> None:
    recording = street_recording(DEMO_STREAM, tmp_path)
    assert [phase.name for phase in recording.phases] == ["day", "dusk", "rain", "other district"]
    assert [phase.end_s for phase in recording.phases] == [25.0, 50.0, 75.0, 100.0]
    assert recording.exact_labels is not None


def test_preparing_draws_the_street(tmp_path: Path) -> None:
    phases = (Phase(name="day", start_s=0.0, light=DAY), Phase(name="rain", start_s=0.2, light=RAIN))
    recording = street_recording(StreetConfig(width=64, height=64, duration_s=0.3, variety=1, phases=phases), tmp_path)
    recording.prepare()
    assert own_recording(recording.path).shape == (64, 64)
    assert recording.exact_labels is not None
    assert recording.exact_labels.is_file()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), FFmpegError(28, "No space left on device")])
def test_a_full_disk_leaves_no_part_of_a_street(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def full(street: StreetConfig, video: Path, labels: Path) -> None:
        video.write_bytes(b"half a street")
        raise error

    monkeypatch.setattr("ams_eval.demo_recording.write_stream", full)
    with pytest.raises(ConfigurationError, match=r"cannot draw the street into '.*': no space left on device"):
        street_recording(DEMO_STREAM, tmp_path).prepare()
    assert not list(tmp_path.iterdir())


def test_an_own_video_is_looked_at_before_anything_starts(tmp_path: Path) -> None:
    recording = own_recording(write_video(tmp_path / "mine.mp4", tenths(10), width=96, height=64))
    assert (recording.title, recording.shape, recording.phases, recording.exact_labels) == ("mine.mp4", (96, 64), (), None)
    assert recording.duration_s == pytest.approx(1.0, abs=0.11)
    recording.prepare()


def test_a_sound_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "sound.wav").write_bytes(
        b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x44\xac\0\0\x88\x58\x01\0\x02\0\x10\0data\x08\0\0\0" + bytes(8)
    )
    with pytest.raises(SourceError, match=r"sound\.wav' holds no video"):
        own_recording(tmp_path / "sound.wav")


class FakeProcess(ChildProcess):
    """Ends well after so many looks; a negative number fails at once."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.name = "fake"

    def finished(self) -> bool:
        if self.looks < 0:
            raise ProcessFailedError("fake ended with status 1")
        self.looks -= 1
        return self.looks < 0

    def _failure(self, what: str) -> ProcessFailedError:
        return ProcessFailedError(f"fake {what}")


def watch(edge_process: ChildProcess, server_process: ChildProcess, clock: ManualClock, folder: Path) -> float:
    progress = Progress(1.0, Budgets(0.0, 0.0))
    view = LiveView(Console(file=io.StringIO()), progress, clock)
    return demo.watch(edge_process, server_process, folder / "events.jsonl", view, progress, clock)


def test_watching_ends_with_the_edge(tmp_path: Path) -> None:
    clock = ManualClock()
    assert watch(FakeProcess(4), FakeProcess(99), clock, tmp_path) == pytest.approx(4 * demo.POLL_S)


@pytest.mark.parametrize(("edge_looks", "server_looks"), [(-1, 99), (99, -1), (99, 2)], ids=["edge", "server", "server ends"])
def test_watching_ends_with_whatever_fails(tmp_path: Path, edge_looks: int, server_looks: int) -> None:
    with pytest.raises(ProcessFailedError):
        watch(FakeProcess(edge_looks), FakeProcess(server_looks), ManualClock(), tmp_path)


def test_a_server_that_cannot_start_ends_the_demo_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_SERVER", "raise SystemExit('no such weights')")
    monkeypatch.setattr(Recording, "prepare", lambda self: None)
    with pytest.raises(ProcessFailedError, match=r"ams-server ended with status 1; .*server\.log:\n  no such weights"):
        demo.run(["--out", str(tmp_path / "out")])
    assert not list((tmp_path / "out").glob("run-*"))


def test_a_mistake_at_the_server_is_told_in_the_name_of_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recording, "prepare", lambda self: None)
    with pytest.raises(ProcessFailedError, match=r"\n  ams-server: cannot read class set '.*': no such file or directory$"):
        demo.run(["--out", str(tmp_path / "out"), "--class-set", str(tmp_path / "none.toml")])


def test_a_setting_of_the_file_is_checked_too(tmp_path: Path) -> None:
    (tmp_path / "demo.toml").write_text("stepz = 3\n")
    with pytest.raises(ConfigurationError, match=r"unknown setting stepz in .*demo\.toml: did you mean steps\?"):
        settings("--config", str(tmp_path / "demo.toml"))
