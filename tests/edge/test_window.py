import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ams_common.classes import STREET7
from ams_common.errors import ConfigurationError
from ams_edge.frame import Frame
from ams_edge.overlay import draw_caption, draw_legend, draw_overlay
from ams_edge.picture import Picture
from ams_edge.window import WindowSink, check_display

IMAGE = np.random.default_rng(3).integers(0, 256, (320, 640, 3), np.uint8)
LABELS = np.zeros((32, 64), np.uint8)


class FakeTk(ModuleType):
    """Stands for tkinter: remembers what is shown, and that one thread alone used it."""

    def __init__(self) -> None:
        super().__init__("tkinter")
        self.threads: set[str] = set()
        self.shown: list[bytes] = []
        self.destroyed = False
        self.updated = threading.Event()
        self.close_by_hand: Callable[[], None] = lambda: None
        self.error: Exception | None = None

    def Tk(self) -> Any:  # noqa: N802  # the names are Tk's
        self.threads.add(threading.current_thread().name)
        if self.error is not None:
            raise self.error
        return self

    def Label(self, root: Any, **options: Any) -> Any:  # noqa: N802
        return self

    def PhotoImage(self, *, master: Any, data: bytes, format: str) -> bytes:  # noqa: N802
        self.threads.add(threading.current_thread().name)
        assert (master, format) == (self, "PPM")
        return data

    def title(self, text: str) -> None:
        assert text

    def pack(self) -> None:
        pass

    def protocol(self, name: str, action: Callable[[], None]) -> None:
        assert name == "WM_DELETE_WINDOW"
        self.close_by_hand = action

    def configure(self, *, image: bytes) -> None:
        self.shown.append(image)

    def update(self) -> None:
        self.updated.set()

    def destroy(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.destroyed = True


@pytest.fixture
def tk(monkeypatch: pytest.MonkeyPatch) -> FakeTk:
    fake = FakeTk()
    monkeypatch.setitem(sys.modules, "tkinter", fake)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(sys, "platform", "linux")
    return fake


def picture(index: int = 0) -> Picture:
    return Picture(Frame(IMAGE, index=index, capture_time_s=index / 10), LABELS, 1, 2.5)


def test_the_window_shows_overlay_legend_and_model_age(tk: FakeTk) -> None:
    window = WindowSink(STREET7)
    window.write(picture())
    window.close()
    window.close()
    parts = draw_overlay(IMAGE, LABELS, STREET7.palette()), draw_legend(STREET7, 640), draw_caption(1, 2.5, 640)
    expected = np.vstack(parts)
    assert tk.shown == [b"P6 %d %d 255\n" % (640, len(expected)) + expected.tobytes()]
    assert tk.threads == {"window"}
    assert tk.destroyed
    assert not window.alive


def test_the_window_lives_while_no_picture_comes(tk: FakeTk) -> None:
    window = WindowSink(STREET7)
    assert tk.updated.wait(5.0)
    assert window.alive
    window.close()


def test_a_window_closed_by_hand_stays_closed_and_disturbs_nobody(tk: FakeTk) -> None:
    window = WindowSink(STREET7)
    tk.close_by_hand()
    window.write(picture())
    window.close()
    assert tk.shown == []
    assert tk.destroyed


def test_a_slow_window_drops_pictures(tk: FakeTk, monkeypatch: pytest.MonkeyPatch) -> None:
    busy, go_on = threading.Event(), threading.Event()

    def update() -> None:
        if tk.shown:
            busy.set()
            assert go_on.wait(10.0)

    monkeypatch.setattr(tk, "update", update)
    window = WindowSink(STREET7)
    window.write(picture(0))
    assert busy.wait(10.0)
    for index in range(1, 6):
        window.write(picture(index))
    go_on.set()
    window.close()
    assert window.dropped == 4
    assert len(tk.shown) == 2


def test_a_display_that_refuses_is_one_clear_line(tk: FakeTk) -> None:
    tk.error = RuntimeError('couldn\'t connect to display ":0"')
    with pytest.raises(ConfigurationError, match="cannot open a window: couldn't connect to display"):
        WindowSink(STREET7)


def test_a_window_that_breaks_later_costs_one_warning(
    tk: FakeTk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*, image: bytes) -> None:
        raise RuntimeError("display gone")

    monkeypatch.setattr(tk, "configure", broken)
    window = WindowSink(STREET7)
    window.write(picture())
    window.close()
    window.write(picture())
    assert [record.getMessage() for record in caplog.records] == ["the window has closed: display gone"]


def test_a_python_without_tk_says_what_to_install(tk: FakeTk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tkinter", None)
    with pytest.raises(ConfigurationError, match="python3-tk"):
        check_display()


def test_macos_has_no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ConfigurationError, match="does not work on macOS"):
        check_display()
