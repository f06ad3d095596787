"""How a device's budgets are spent on batches and updates."""

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ams_common.budget import REFERENCE_UPLINK_BPS, TokenBucket, allowance, even_rates
from ams_common.clock import ManualClock
from ams_common.flights import Flight
from ams_common.frame_bits import UPLOAD_S
from ams_common.framing import UPKEEP_BPS, sent_bytes
from ams_common.layout import ParameterLayout, TensorSpec
from ams_common.link_speed import SHARE
from ams_common.messages import MAX_BATCH_BYTES, MAX_UPDATE_BYTES, Control
from ams_common.update_codec import create_codec
from ams_common.wire import server_message_from_proto, server_message_to_proto
from ams_edge.link_plan import as_carried
from ams_server.device_budget import LEAST_UPDATE_BYTES, DeviceBudget, least_interval_s
from ams_server.frame_size import FrameConfig, FrameSize
from ams_server.rate_control import UNLIMITED_PARAMETERS, WORTHWHILE_UPDATE_BYTES, RateControlConfig
from ams_server.spending import DOWNLOAD_S, EXPECTED_BITS_PER_PARAMETER, SIZES_KEPT, Spending
from ams_server.wire_costs import UPDATE_FIELDS_BYTES, batch_cost, largest_payload_bytes, largest_video_bytes, update_cost

LAYOUT = ParameterLayout((TensorSpec(name="weights", shape=(10,)),))
STUDENT = (512, 256)
SMALL_STUDENT = (64, 32)
"""10 kbit are good for each of its frames, so that many may come."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Wishes as they are stated."""

    sampling_hz: float = 1.0
    least_sampling_hz: float = 0.1
    update_interval_s: float = 10.0
    reference_for_each_hz: bool = False

    def reference_uplink_bps(self, sampling_hz: float) -> float:
        return REFERENCE_UPLINK_BPS * (sampling_hz if self.reference_for_each_hz else 1)


def kbps(uplink: float, downlink: float) -> DeviceBudget:
    return DeviceBudget(uplink_bps=round(1000 * uplink), downlink_bps=round(1000 * downlink))


def spending(
    budget: DeviceBudget,
    student: tuple[int, int] = STUDENT,
    *,
    clock: ManualClock | None = None,
    codec: str = "delta-rans",
    frames: FrameConfig | None = None,
) -> Spending:
    return Spending(
        budget,
        frame_size=FrameSize(frames or FrameConfig(), student),
        rate_control=RateControlConfig(),
        codec=create_codec(codec, LAYOUT),
        clock=clock or ManualClock(),
    )


@st.composite
def budgets(draw: st.DrawFn) -> DeviceBudget:
    """Return budgets as devices may have them."""
    up, down = even_rates(draw(st.integers(5_000, 10**7)), draw(st.integers(5_000, 10**7)))
    return DeviceBudget(uplink_bps=up, downlink_bps=down)


@st.composite
def wishes_for(draw: st.DrawFn, budget: DeviceBudget) -> Wanted:
    """Return wishes that keep to the least interval of `budget`."""
    sampling_hz = draw(st.floats(0.1, 10))
    return Wanted(
        sampling_hz=sampling_hz,
        least_sampling_hz=draw(st.floats(0.02, sampling_hz)),
        update_interval_s=max(draw(st.floats(0.3, 60)), least_interval_s(budget)),
    )


def students() -> st.SearchStrategy[tuple[int, int]]:
    return st.sampled_from([(64, 32), (208, 160), STUDENT, (1024, 512), (2049, 1025)])


@given(st.data(), budgets(), students(), st.lists(st.floats(0, 1), max_size=2 * SIZES_KEPT))
def test_what_is_planned_never_exceeds_either_budget(
    data: st.DataObject, budget: DeviceBudget, student: tuple[int, int], used: list[float]
) -> None:
    wishes, account = data.draw(wishes_for(budget)), spending(budget, student)
    made_bytes: list[int] = []
    came_bytes: list[int] = []
    for part in used:
        update, batch = account.update_plan(wishes), account.uplink_plan(wishes)
        assert update.limit_bytes is not None
        made_bytes.append(int(part * update.limit_bytes))
        came_bytes.append(int(part * batch.batch_bytes))
        account.update_made(made_bytes[-1], 1)
        account.batch_came(came_bytes[-1])
    batch, update = account.uplink_plan(wishes), account.update_plan(wishes)
    assert update.limit_bytes is not None
    frames = max(1, round(batch.sampling_hz * batch.batch_interval_s))
    batches_bps = 8 * batch_cost(batch.batch_bytes, frames).up_bytes / batch.batch_interval_s
    interval_s = max(wishes.update_interval_s, batch.batch_interval_s)
    made = min(update.limit_bytes, max(made_bytes[-SIZES_KEPT:], default=update.limit_bytes))
    answers_bps = 8 * update_cost(made).up_bytes / interval_s
    assert batches_bps + answers_bps + UPKEEP_BPS <= budget.uplink_bps + 1e-6
    came = min(batch.batch_bytes, max(came_bytes[-SIZES_KEPT:], default=batch.batch_bytes))
    receipts_bps = 8 * batch_cost(came, frames).down_bytes / batch.batch_interval_s
    updates_bps = 8 * update_cost(update.limit_bytes).down_bytes / interval_s
    assert updates_bps + receipts_bps + UPKEEP_BPS <= budget.downlink_bps + 1e-6
    allowed = allowance(budget.downlink_bps)
    assert update_cost(update.limit_bytes).down_bytes <= allowed.burst_bytes - allowed.reserve_bytes


@given(st.data(), budgets(), students())
def test_what_is_planned_never_waits_for_the_buckets(
    data: st.DataObject, budget: DeviceBudget, student: tuple[int, int]
) -> None:
    clock = ManualClock()
    wishes, account = data.draw(wishes_for(budget)), spending(budget, student, clock=clock)
    uplink = TokenBucket(allowance(budget.uplink_bps, budget.downlink_bps), clock)
    plan = account.uplink_plan(wishes)
    batches = math.ceil(max(wishes.update_interval_s, plan.batch_interval_s) / plan.batch_interval_s)
    assume(batches < 30)
    for _ in range(4):
        for _ in range(batches):
            clock.sleep(plan.batch_interval_s)
            plan = account.uplink_plan(wishes)
            frames = max(1, round(plan.sampling_hz * plan.batch_interval_s))
            cost = batch_cost(plan.batch_bytes, frames)
            assert cost.up_bytes <= uplink.room_bytes + 0.5, "half a byte of rounding"
            uplink.spend(cost.up_bytes)
            account.downlink.spend(cost.down_bytes)
            account.batch_came(plan.batch_bytes)
        payload_bytes = account.update_plan(wishes).limit_bytes
        assert payload_bytes is not None
        cost = update_cost(payload_bytes)
        assert sent_bytes(payload_bytes + UPDATE_FIELDS_BYTES) <= account.downlink.room_bytes + 0.5
        account.downlink.spend(cost.down_bytes)
        uplink.spend(cost.up_bytes)
        account.update_made(payload_bytes, 1)


@given(st.data(), budgets(), students())
def test_an_uplink_is_used_to_95_percent(data: st.DataObject, budget: DeviceBudget, student: tuple[int, int]) -> None:
    wishes, account = data.draw(wishes_for(budget)), spending(budget, student)
    batch, update = account.uplink_plan(wishes), account.update_plan(wishes)
    assert update.limit_bytes is not None
    frames = max(1, round(batch.sampling_hz * batch.batch_interval_s))
    assume(frames > 1 or batch.batch_interval_s <= 2.0)
    assume(batch.batch_bytes < MAX_BATCH_BYTES and batch.batch_interval_s <= 10.0)
    wire_bytes = batch_cost(batch.batch_bytes, frames).up_bytes
    interval_s = max(wishes.update_interval_s, batch.batch_interval_s)
    answers_bytes = update_cost(update.limit_bytes).up_bytes * batch.batch_interval_s / interval_s
    assert 8 * (wire_bytes + answers_bytes) / batch.batch_interval_s + UPKEEP_BPS >= 0.95 * budget.uplink_bps


@given(st.data(), budgets(), students())
def test_an_update_is_large_enough_at_the_interval_that_the_budgets_need(
    data: st.DataObject, budget: DeviceBudget, student: tuple[int, int]
) -> None:
    account = spending(budget, student)
    update = account.update_plan(data.draw(wishes_for(budget)))
    assert update.limit_bytes is not None
    assert update.limit_bytes >= 0.7 * LEAST_UPDATE_BYTES, "batches of one small frame have many receipts"
    assert account.least_interval_s == least_interval_s(budget)


@given(st.data(), budgets(), students(), st.floats(1.1, 4))
def test_more_budget_never_brings_less(
    data: st.DataObject, budget: DeviceBudget, student: tuple[int, int], factor: float
) -> None:
    wishes, account = data.draw(wishes_for(budget)), spending(budget, student)
    batch, update = account.uplink_plan(wishes), account.update_plan(wishes)
    more = spending(replace(budget, downlink_bps=int(factor * budget.downlink_bps)), student).update_plan(wishes)
    assert update.limit_bytes is not None
    assert more.limit_bytes is not None
    assert more.parameters >= update.parameters
    assert more.limit_bytes >= update.limit_bytes
    richer = spending(replace(budget, uplink_bps=int(factor * budget.uplink_bps)), student).uplink_plan(wishes)
    # Where budgets grow, a frame may take more of the burst, which grows too.
    assert richer.sampling_hz >= batch.sampling_hz or richer.batch_bytes > batch.batch_bytes
    assert richer.sampling_hz >= 0.95 * batch.sampling_hz
    assert (richer.batch_bytes + 1) / richer.batch_interval_s >= batch.batch_bytes / batch.batch_interval_s, "but for rounding"


@given(st.data(), budgets(), students())
def test_frames_are_left_out_before_they_get_too_coarse(
    data: st.DataObject, budget: DeviceBudget, student: tuple[int, int]
) -> None:
    wishes, account = data.draw(wishes_for(budget)), spending(budget, student)
    batch = account.uplink_plan(wishes)
    assert wishes.least_sampling_hz <= batch.sampling_hz <= wishes.sampling_hz
    if batch.sampling_hz > wishes.least_sampling_hz:
        frames = max(1, round(batch.sampling_hz * batch.batch_interval_s))
        allowed = allowance(budget.uplink_bps, budget.downlink_bps)
        most_bits = 8 * (allowed.burst_bytes - allowed.reserve_bytes)
        assert 8 * batch.batch_bytes / frames >= 0.7 * min(account.frame_size.wanted_bits(0.0), most_bits)


@given(st.data(), budgets(), students())
def test_a_link_as_slow_as_the_budget_is_used_while_frames_are_not_good(
    data: st.DataObject, budget: DeviceBudget, student: tuple[int, int]
) -> None:
    assume(budget.uplink_bps)
    plan = spending(budget, student).uplink_plan(data.draw(wishes_for(budget)))
    asked = Control(**plan._asdict())
    carried_bps = SHARE * budget.uplink_bps
    carried = as_carried(asked, carried_bps)
    asked_bps, sent_bps = (8 * each.batch_bytes / each.batch_interval_s for each in (asked, carried))
    good = carried.batch_bytes + 1 >= max(asked.worthwhile_frame_bytes, UPLOAD_S * carried_bps / 8)
    assert good or sent_bps >= 0.75 * min(asked_bps, carried_bps)


@given(st.data(), st.integers(1, 5_000), st.integers(1, 5_000), students())
def test_a_ceiling_that_leaves_nearly_nothing_still_makes_a_plan_that_a_device_takes(
    data: st.DataObject, uplink_bps: int, downlink_bps: int, student: tuple[int, int]
) -> None:
    up, down = even_rates(uplink_bps, downlink_bps)
    budget = DeviceBudget(uplink_bps=up, downlink_bps=down)
    wishes, account = data.draw(wishes_for(budget)), spending(budget, student)
    control = Control(**account.uplink_plan(wishes)._asdict(), uplink_bps=up, downlink_bps=down)
    assert server_message_from_proto(server_message_to_proto(control)) == control
    account.downlink.spend(10**6)
    update = account.update_plan(wishes)
    assert update.limit_bytes is not None
    assert 0 <= update.limit_bytes <= WORTHWHILE_UPDATE_BYTES
    assert update.parameters >= 1


def test_without_a_limit_batches_aim_at_the_rate_of_the_paper_and_updates_at_nothing() -> None:
    account = spending(kbps(0, 0), (208, 160))
    assert account.least_interval_s == 0.0
    assert account.update_plan(Wanted()) == (None, UNLIMITED_PARAMETERS)
    batch = account.uplink_plan(Wanted())
    assert (batch.sampling_hz, batch.batch_interval_s) == (1.0, 1.0)
    assert batch.batch_bytes == largest_video_bytes(REFERENCE_UPLINK_BPS / 8, 1)


def test_without_a_limit_frames_are_good_rather_than_many_too() -> None:
    limited, account = spending(kbps(0.001 * REFERENCE_UPLINK_BPS, 0)), spending(kbps(0, 0))
    batch = account.uplink_plan(Wanted())
    assert (
        batch.sampling_hz == pytest.approx(limited.uplink_plan(Wanted()).sampling_hz, rel=0.01) == pytest.approx(0.33, rel=0.05)
    )
    assert 8 * batch.batch_bytes == pytest.approx(account.frame_size.wanted_bits(REFERENCE_UPLINK_BPS), rel=0.01)
    per_frame = Wanted(sampling_hz=4.0, reference_for_each_hz=True)
    assert account.uplink_plan(per_frame).sampling_hz == 4.0, "fewer of them would have no more bits"


def test_where_any_frame_is_worthwhile_the_scene_alone_decides_how_many_come() -> None:
    for budget in (kbps(0, 0), kbps(50, 0)):
        plan = spending(budget, frames=FrameConfig(worthwhile_bits=0)).uplink_plan(Wanted())
        assert (plan.sampling_hz, plan.worthwhile_frame_bytes) == (1.0, 0)


def test_an_uplink_alone_by_hand() -> None:
    # 12 kB take 2 s at 47.7 kbit/s.
    batch = spending(kbps(48, 0), SMALL_STUDENT).uplink_plan(Wanted())
    assert batch.batch_interval_s == 2.0
    assert batch.batch_bytes == largest_video_bytes((48_000 - UPKEEP_BPS) * 2 / 8, 2)
    assert 8 * batch.batch_bytes / 2 == pytest.approx(0.92 * 48_000, rel=0.01)


@pytest.mark.parametrize(
    ("uplink", "student", "sampling_hz", "frame_kbit"),
    [
        (25, (208, 160), 0.29, 80),
        (50, (208, 160), 0.31, 149),
        (100, (208, 160), 0.59, 160),
        (200, (208, 160), 1.0, 187),
        (50, STUDENT, 0.15, 315),
        (25, SMALL_STUDENT, 1.0, 22.5),
    ],
)
def test_fewer_frames_where_all_would_be_coarse(
    uplink: int, student: tuple[int, int], sampling_hz: float, frame_kbit: float
) -> None:
    """From 2.4 to 4.8 bits for each pixel that the student sees, and between them what the budget brings in 3 s."""
    plan = spending(kbps(uplink, 0), student).uplink_plan(Wanted())
    frames = round(plan.sampling_hz * plan.batch_interval_s)
    assert plan.sampling_hz == pytest.approx(sampling_hz, rel=0.03)
    assert 8e-3 * plan.batch_bytes / frames == pytest.approx(frame_kbit, rel=0.03)
    assert spending(kbps(uplink, 0), student).uplink_plan(Wanted(least_sampling_hz=0.8)).sampling_hz == max(
        0.8, plan.sampling_hz
    )


def test_a_rare_large_frame_may_have_the_bits_that_it_needs() -> None:
    batch = spending(kbps(25, 0), (1920, 1088)).uplink_plan(Wanted())
    assert batch.sampling_hz < 0.2
    assert 8 * batch.batch_bytes >= 0.9 * 0.1 * 1920 * 1088


def test_a_rare_large_frame_has_the_bits_that_it_needs_and_no_more() -> None:
    account = spending(kbps(48, 0), (208, 160))
    batch = account.uplink_plan(Wanted(sampling_hz=0.1))
    assert (batch.sampling_hz, batch.batch_interval_s) == (0.1, 10.0)
    assert 0 <= batch.batch_bytes - account.frame_size.wanted_bits(48_000 - UPKEEP_BPS) / 8 <= 2


def test_a_rare_frame_without_a_limit_has_the_bytes_of_two_seconds() -> None:
    batch = spending(kbps(0, 0), (208, 160)).uplink_plan(Wanted(sampling_hz=0.1))
    assert batch.batch_bytes == largest_video_bytes(2 * REFERENCE_UPLINK_BPS / 8, 1)


def test_no_batch_is_larger_than_a_message_may_be() -> None:
    assert spending(kbps(10**6, 10**6)).uplink_plan(Wanted()).batch_bytes == MAX_BATCH_BYTES


def test_the_same_budgets_again_forget_nothing() -> None:
    account, wishes = spending(kbps(50, 200)), Wanted()
    for _ in range(SIZES_KEPT):
        account.batch_came(1000)
        account.update_made(2000, 100)
    before = account.uplink_plan(wishes), account.update_plan(wishes)
    account.change_budget(kbps(50, 200))
    assert (account.uplink_plan(wishes), account.update_plan(wishes)) == before


def test_another_account_goes_on_with_the_debts_of_the_first_at_its_own_rate() -> None:
    clock = ManualClock()
    earlier, account = spending(kbps(0, 400), clock=clock), spending(kbps(0, 100), clock=clock)
    earlier.downlink.spend(10**6)
    account.go_on_with(earlier.downlink)
    account.change_budget(account.budget)
    assert account.downlink.bps == 100_000 - UPKEEP_BPS
    assert account.downlink.room_bytes == pytest.approx(allowance(400_000).burst_bytes - 10**6, abs=10**5)
    assert account.update_plan(Wanted()).limit_bytes == WORTHWHILE_UPDATE_BYTES


def test_on_a_slow_link_debts_limit_updates_still() -> None:
    account = spending(kbps(0, 60))
    account.link_speed.observe(Flight(wire_bytes=125_000, duration_s=20.0, waited_s=1.0))
    assert account.update_plan(Wanted()).limit_bytes == largest_payload_bytes((SHARE * 50_000 - UPKEEP_BPS) * DOWNLOAD_S / 8)
    account.downlink.spend(10**6)
    assert account.update_plan(Wanted()).limit_bytes == WORTHWHILE_UPDATE_BYTES


def test_a_changed_budget_counts_for_the_next_batch_and_update() -> None:
    clock = ManualClock()
    account, wishes = spending(kbps(200, 100), clock=clock), Wanted()
    account.uplink_plan(wishes)
    account.batch_came(5_000)
    account.update_made(5_000, 100)
    account.change_budget(kbps(50, 25))
    fresh = spending(kbps(50, 25))
    fresh.bits_per_parameter = account.bits_per_parameter
    assert account.uplink_plan(wishes)[:3] == fresh.uplink_plan(wishes)[:3]
    assert account.update_plan(wishes) == fresh.update_plan(wishes)
    account.downlink.spend(60_000)
    account.change_budget(kbps(200, 100))
    assert account.update_plan(wishes).limit_bytes == WORTHWHILE_UPDATE_BYTES, "debts stay"
    clock.sleep(100)
    assert account.update_plan(wishes) == spending(kbps(200, 100)).update_plan(wishes)


def test_receipts_are_those_of_the_sizes_of_late() -> None:
    account, wishes = spending(kbps(50, 200), SMALL_STUDENT), Wanted()
    before = account.uplink_plan(wishes)
    for _ in range(SIZES_KEPT):
        account.update_made(20_000, 100)
    after = account.uplink_plan(wishes)
    saved_bytes = update_cost(largest_payload_bytes(200_000 * 10 / 8)).up_bytes - update_cost(32_768).up_bytes
    assert after.batch_bytes - before.batch_bytes == pytest.approx(saved_bytes * 0.2, rel=0.1), "two seconds of ten"
    account.update_made(20_001, 100)
    assert account.uplink_plan(wishes) == after, "a little more or less changes nothing"
    account.update_made(10**6, 100)
    assert account.uplink_plan(wishes).batch_bytes == before.batch_bytes
    limit = account.update_plan(wishes).limit_bytes
    account.batch_came(1000)
    more = account.update_plan(wishes).limit_bytes
    assert limit is not None
    assert more is not None
    assert more > limit


@pytest.mark.parametrize("downlink", [0, 60])
def test_a_slow_link_limits_updates_to_what_it_carries_soon(downlink: float) -> None:
    account = spending(kbps(0, downlink), SMALL_STUDENT)
    account.link_speed.observe(Flight(wire_bytes=50_000, duration_s=20.0, waited_s=1.0))
    assert account.update_plan(Wanted()).limit_bytes == largest_payload_bytes((SHARE * 20_000 - UPKEEP_BPS) * DOWNLOAD_S / 8)
    often = Wanted(update_interval_s=2.0)
    account.link_speed.observe(Flight(wire_bytes=150_000, duration_s=20.0, waited_s=1.0))
    account.link_speed.observe(Flight(wire_bytes=100_000, duration_s=20.0, waited_s=1.0))
    assert account.update_plan(often).limit_bytes == largest_payload_bytes((SHARE * 40_000 - UPKEEP_BPS) * 2 / 8)
    account.link_speed.observe(Flight(wire_bytes=5_000, duration_s=600.0, waited_s=1.0))
    assert account.update_plan(Wanted()).limit_bytes == WORTHWHILE_UPDATE_BYTES


def test_a_codec_that_keeps_no_limit_changes_as_many_parameters_as_the_last_update_says() -> None:
    account = spending(kbps(0, 12), codec="gap-zstd")
    limit = account.update_plan(Wanted()).limit_bytes
    assert limit is not None
    assert account.update_plan(Wanted()).parameters == int(8 * limit / EXPECTED_BITS_PER_PARAMETER)
    account.update_made(1000, 500)
    assert account.update_plan(Wanted()).parameters == int(8 * limit / 16)
    account.update_made(50, 0)
    assert account.bits_per_parameter == 16, "an update of nothing says nothing"


@given(st.integers(5_000, 10**8))
def test_the_largest_update_goes_at_once_and_leaves_the_reserve(downlink_bps: int) -> None:
    account = spending(DeviceBudget(uplink_bps=0, downlink_bps=downlink_bps))
    largest_bytes = account.update_plan(Wanted(update_interval_s=3600.0)).limit_bytes
    assert largest_bytes is not None
    assert sent_bytes(largest_bytes + UPDATE_FIELDS_BYTES) <= account.downlink.room_bytes
    assert sent_bytes(largest_bytes + 600) > account.downlink.room_bytes or largest_bytes == MAX_UPDATE_BYTES


def test_no_update_is_larger_than_a_message_may_be() -> None:
    plan = spending(kbps(0, 1_000_000)).update_plan(Wanted(update_interval_s=100.0))
    assert plan.limit_bytes == MAX_UPDATE_BYTES
    assert plan.parameters == 4 * MAX_UPDATE_BYTES


def test_updates_wait_for_frames_that_are_more_seldom() -> None:
    account = spending(kbps(100, 100), SMALL_STUDENT)
    seldom = account.update_plan(Wanted(sampling_hz=0.2, update_interval_s=2.0)).limit_bytes
    often = account.update_plan(Wanted(update_interval_s=2.0)).limit_bytes
    assert seldom is not None
    assert often is not None
    assert seldom > 2 * often
