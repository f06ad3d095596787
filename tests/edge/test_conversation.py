"""What the device does about what its server says; the whole of it over a socket is in `test_agent`."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.edge.tiny_student import tiny_model, tiny_update, unrunnable
from tests.protocol_support import CONTROL, TIMEOUT_S

from ams_common.clock import SystemClock
from ams_common.errors import ConfigurationError, ModelError, UpdateRefusedError
from ams_common.events import EventLog, read_events
from ams_common.flights import Flight
from ams_common.framing import UPKEEP_BPS
from ams_common.link_speed import SHARE
from ams_common.messages import Bound, Budget, Control
from ams_common.session.client import ControlChanged, Disconnected, ModelReceived, ProblemReported
from ams_common.update_codec import DEFAULT_CODEC
from ams_common.video_formats import VideoCodec
from ams_edge.conversation import Conversation
from ams_edge.link import Link
from ams_edge.link_plan import as_carried
from ams_edge.patcher import Patcher
from ams_edge.providers import choose_backend
from ams_edge.settings import AgentSettings
from ams_edge.statistics import Statistics
from ams_edge.store import ModelStore
from ams_edge.swap import ModelSlot

FINAL = ProblemReported(code="unsupported", reason="it serves 'large'", final=True)


def capped(
    uplink_bps: int, downlink_bps: int, uplink_bound: Bound = "unspecified", downlink_bound: Bound = "unspecified"
) -> ControlChanged:
    control = replace(CONTROL, uplink_bps=uplink_bps, downlink_bps=downlink_bps)
    return ControlChanged(control=replace(control, uplink_bound=uplink_bound, downlink_bound=downlink_bound))


@pytest.fixture
def converse(tmp_path: Path) -> Iterator[Callable[..., Conversation]]:
    """Return a function that makes a conversation with a server that is not there, not started."""
    made: list[Conversation] = []
    clock = SystemClock()
    event_log = EventLog(tmp_path / "events.jsonl", clock)

    def make(uplink_kbps: float = 0, downlink_kbps: float = 0, video_codec: VideoCodec = "h264") -> Conversation:
        settings = AgentSettings(
            source="0",
            server="127.0.0.1:1",
            state_folder=tmp_path,
            uplink_kbps=uplink_kbps,
            downlink_kbps=downlink_kbps,
            video_codec=video_codec,
        )
        made.append(
            Conversation(
                settings,
                Patcher(choose_backend(settings), ModelSlot(), clock),
                ModelStore(tmp_path / "state", settings, clock),
                None,
                statistics=Statistics(clock, event_log),
                events=event_log,
                clock=clock,
            )
        )
        return made[-1]

    yield make
    for conversation in made:
        conversation.stop()
    event_log.close()


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname != "INFO"]


def test_nothing_is_wanted_before_the_server_says_so(converse: Callable[..., Conversation]) -> None:
    conversation = converse()
    assert conversation.wanted() is None
    conversation._on_event(ControlChanged(control=CONTROL))
    assert conversation.wanted() == CONTROL


def test_while_the_server_has_a_model_that_cannot_run_here_nothing_is_sent_or_asked_for(
    converse: Callable[..., Conversation], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []
    model, conversation = tiny_model(), converse()
    conversation._patcher.install(model)
    monkeypatch.setattr(conversation._link, "request_snapshot", asked.append)
    conversation._on_event(ControlChanged(control=CONTROL))
    conversation._on_refused(ModelError("no such operator"), unrunnable(model))
    conversation._on_refused(UpdateRefusedError("a gap"), tiny_update(model))
    assert (asked, conversation.wanted()) == ([], None)
    conversation.check()  # another model runs on
    assert warnings_of(caplog) == ["the model of server 127.0.0.1:1 cannot run here; another one runs on"]
    conversation._on_event(ModelReceived(manifest=model.manifest, graph=model.graph, codec=DEFAULT_CODEC))
    conversation._on_refused(UpdateRefusedError("a gap"), tiny_update(model))
    conversation._on_refused(ModelError("no memory"), model)
    assert (asked, conversation.wanted()) == (["a gap", "no memory"], CONTROL)


def test_a_first_model_that_cannot_run_here_leaves_nothing_to_wait_for(converse: Callable[..., Conversation]) -> None:
    conversation = converse()
    conversation._on_refused(ModelError("no such operator"), unrunnable(tiny_model()))
    with pytest.raises(ConfigurationError, match=r"the model of server 127\.0\.0\.1:1 cannot run here: no such operator"):
        conversation.check()


def test_with_the_stream_ends_what_the_model_has_learnt_on_it(converse: Callable[..., Conversation]) -> None:
    conversation = converse()
    conversation._statistics._learnt_on_stream_us = 5_000_000
    conversation._on_event(Disconnected(reason="server cannot be reached"))
    assert conversation._statistics.learnt_us is None


def test_what_the_server_refuses_is_told_once(
    converse: Callable[..., Conversation], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    conversation = converse()
    conversation._on_event(ProblemReported(code="busy", reason="it is full", final=False))
    conversation._on_event(Disconnected(reason="it is full"))
    conversation._on_event(Disconnected(reason="server cannot be reached"))
    conversation.check()
    assert warnings_of(caplog) == [
        "the server refuses: it is full; there is no model yet",
        "server cannot be reached; there is no model yet",
    ]
    told = [event["reason"] for event in read_events(tmp_path / "events.jsonl") if event["event"] == "disconnected"]
    assert told == ["it is full", "server cannot be reached"]


def test_a_device_that_is_refused_in_the_middle_of_its_first_model_does_not_wait_for_ever(
    converse: Callable[..., Conversation], caplog: pytest.LogCaptureFixture
) -> None:
    model, conversation = tiny_model(), converse()
    conversation._on_event(ModelReceived(manifest=model.manifest, graph=model.graph, codec=DEFAULT_CODEC))
    conversation._on_event(FINAL)
    assert warnings_of(caplog) == [], "what ends the command is its last line, and no line of the log"
    with pytest.raises(ConfigurationError, match="refuses this device: it serves 'large'"):
        conversation.check()


def test_a_refusal_that_is_final_does_not_end_a_model_that_runs(
    converse: Callable[..., Conversation], caplog: pytest.LogCaptureFixture
) -> None:
    conversation = converse()
    conversation._patcher.install(tiny_model())
    conversation._on_event(FINAL)
    conversation.check()
    assert warnings_of(caplog) == ["the server refuses: it serves 'large'; the model runs on"]


def test_budgets_change_while_it_runs_and_the_server_s_caps_are_kept_and_told(
    converse: Callable[..., Conversation], caplog: pytest.LogCaptureFixture
) -> None:
    conversation = converse(uplink_kbps=200, downlink_kbps=300)
    assert (conversation._hello().uplink_bps, conversation._hello().downlink_bps) == (200_000, 300_000)
    conversation._on_event(capped(200_000, 300_000))
    assert warnings_of(caplog) == []
    conversation._on_event(capped(50_000, 300_000))
    conversation._on_event(capped(50_000, 300_000))
    reason = "the server allows 50 kbit/s up, 300 kbit/s down, where 200 kbit/s up, 300 kbit/s down are asked for"
    assert warnings_of(caplog) == [reason]
    assert conversation._link._uplink.bps == 50_000 - UPKEEP_BPS
    conversation.set_budgets(uplink_kbps=20, downlink_kbps=100)
    assert conversation._link._uplink.bps == 20_000 - UPKEEP_BPS
    assert (conversation._hello().uplink_bps, conversation._hello().downlink_bps) == (20_000, 100_000)
    assert conversation._budgets.own == Budget(uplink_bps=20_000, downlink_bps=80_000), "at most four times each other"
    conversation.set_budgets(uplink_kbps=100, downlink_kbps=0)
    assert conversation._link._uplink.bps == 50_000 - UPKEEP_BPS, "the server's word holds until it says another"
    conversation._on_event(capped(100_000, 400_000))
    assert conversation._link._uplink.bps == 100_000 - UPKEEP_BPS
    assert len(warnings_of(caplog)) == 1
    with pytest.raises(ConfigurationError, match="budgets of -1 and 0 kbit/s"):
        conversation.set_budgets(uplink_kbps=-1, downlink_kbps=0)


def test_why_the_server_allows_less_is_told_to_people_and_programs(
    converse: Callable[..., Conversation], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    conversation = converse(uplink_kbps=200, downlink_kbps=300)
    conversation._on_event(capped(200_000, 300_000))
    conversation._on_event(capped(50_000, 200_000, "share", "other_direction"))
    conversation._on_event(capped(50_000, 300_000, "ceiling"))
    conversation.set_budgets(uplink_kbps=20, downlink_kbps=0)
    asked = "where 200 kbit/s up, 300 kbit/s down are asked for"
    share = "50 kbit/s up (this device's share of the server's total)"
    assert warnings_of(caplog) == [
        f"the server allows {share}, 200 kbit/s down (the other direction acknowledges no more), {asked}",
        f"the server allows 50 kbit/s up (a ceiling set for this device), 300 kbit/s down, {asked}",
    ]
    told = [event for event in read_events(tmp_path / "events.jsonl") if event["event"] == "budgets"]
    names = ("uplink_kbps", "downlink_kbps", "uplink_bound", "downlink_bound")
    assert [tuple(event[name] for name in names) for event in told] == [
        (50, 200, "share", "other_direction"),
        (50, 300, "ceiling", None),
        (20, 80, None, None),
    ]


def test_uneven_budgets_and_the_end_of_a_cap_are_told(
    converse: Callable[..., Conversation], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ams_edge.conversation")
    conversation = converse(uplink_kbps=900, downlink_kbps=100)
    conversation.start()
    kept = "budgets of 900 kbit/s up, 100 kbit/s down are kept to 800 kbit/s up, 100 kbit/s down"
    assert caplog.messages[0] == f"{kept}: the other direction acknowledges no more"
    caplog.clear()
    for uplink_bps in (50_000, 800_000):
        conversation._on_event(capped(uplink_bps, 100_000))
    own = [record.getMessage() for record in caplog.records if record.name == "ams_edge.conversation"]
    assert [line for line in own if "cannot be reached" not in line] == [
        "the server allows 50 kbit/s up, 100 kbit/s down, where 900 kbit/s up, 100 kbit/s down are asked for",
        "the own budgets hold: 800 kbit/s up, 100 kbit/s down",
    ]
    caplog.clear()
    conversation.set_budgets(uplink_kbps=100, downlink_kbps=100)
    assert "budgets are now 100 kbit/s up, 100 kbit/s down" in caplog.messages


def test_budgets_that_the_server_refuses_are_kept_to_all_the_same(
    converse: Callable[..., Conversation], caplog: pytest.LogCaptureFixture
) -> None:
    conversation = converse(uplink_kbps=100, downlink_kbps=200)
    conversation._patcher.install(tiny_model())
    conversation._on_event(capped(100_000, 200_000))
    conversation.set_budgets(uplink_kbps=2, downlink_kbps=4)
    conversation._on_event(ProblemReported(code="budget_too_small", reason="2 kbit/s carry nothing", final=True))
    conversation.check()
    assert conversation._link._uplink.bps == 2000 - UPKEEP_BPS, "nobody has allowed more"
    assert warnings_of(caplog) == [
        "the server refuses: 2 kbit/s carry nothing; the model runs on, "
        "and the server is asked again in 300 s, or at once for other budgets (SIGHUP)"
    ]


def test_a_cap_that_comes_while_budgets_change_is_kept(
    converse: Callable[..., Conversation], monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = converse(uplink_kbps=200, downlink_kbps=300)
    hold = Link.hold

    def interrupted(link: Link, budget: Budget) -> None:
        if conversation._control is None:
            conversation._on_event(capped(50_000, 300_000))
        hold(link, budget)

    monkeypatch.setattr(Link, "hold", interrupted)
    conversation.set_budgets(uplink_kbps=100, downlink_kbps=300)
    assert conversation._link._uplink.bps == 50_000 - UPKEEP_BPS


def test_the_server_is_asked_last_for_the_budgets_that_hold_here(
    converse: Callable[..., Conversation], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    conversation = converse()
    second = threading.Thread(target=lambda: conversation.set_budgets(uplink_kbps=60, downlink_kbps=100))

    def interrupted(link: Link, budget: Budget) -> None:
        if budget.uplink_bps == 50_000:
            second.start()
            second.join(0.1)
        asked.append(budget.uplink_bps)

    monkeypatch.setattr(Link, "change_budget", interrupted)
    conversation.set_budgets(uplink_kbps=50, downlink_kbps=100)
    second.join(TIMEOUT_S)
    assert asked == [50_000, conversation._budgets.asked.uplink_bps] == [50_000, 60_000]


def test_frames_become_fewer_on_a_link_that_is_slower_than_what_is_asked_for(
    converse: Callable[..., Conversation], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    asked = replace(CONTROL, sampling_hz=1.0, batch_interval_s=1.0, batch_bytes=24_000, worthwhile_frame_bytes=10_000)
    seldom = replace(asked, sampling_hz=0.1, batch_interval_s=10.0, batch_bytes=10_000)
    conversation = converse(uplink_kbps=200)

    def wanted(control: Control) -> Control | None:
        conversation._on_event(ControlChanged(control=control))
        return conversation.wanted()

    assert wanted(asked) is asked
    conversation._link._speed.observe(Flight(wire_bytes=50_000, duration_s=8.0, waited_s=1.0))
    carried = wanted(asked)
    assert carried == as_carried(asked, SHARE * 50_000)
    assert carried is not None
    assert carried.sampling_hz < 0.6
    assert wanted(seldom) == seldom, "the budget is larger, but no more is asked for"
    assert wanted(asked) != asked
    for _ in range(3):
        conversation._link._speed.observe(Flight(wire_bytes=50_000, duration_s=0.1))
    assert wanted(asked) is asked
    told = [record.getMessage() for record in caplog.records if "the link carries" in record.getMessage()]
    slower = "the link carries 50.0 kbit/s, less than is asked for: frames are smaller or fewer"
    assert told == [slower, "the link carries what is asked for again"] * 2


def test_a_video_codec_that_the_server_does_not_decode_is_told_once(
    converse: Callable[..., Conversation], caplog: pytest.LogCaptureFixture
) -> None:
    older = ControlChanged(control=replace(CONTROL, video_codecs=("h264",)))
    newer = ControlChanged(control=replace(CONTROL, video_codecs=("h264", "av1")))
    for codec, control in (("h264", older), ("av1", newer), ("av1", older)):
        conversation = converse(video_codec=codec)
        conversation._on_event(control)
        conversation._on_event(control)
    assert warnings_of(caplog) == ["the server does not decode --video-codec av1: h264 is used"]
