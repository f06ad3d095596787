"""How a device's budgets are spent: one account of both directions, and what the device should send and be sent because of it.

A learner wishes for a sampling rate and an update interval, which follow the scene. From them and the budgets comes all else:
the sampling rate that leaves each frame enough bits, how often and in how many bytes a device sends, the size of its frames,
and how large an update may be. Each direction pays for the receipts of the other one, by the sizes that batches and updates
have had lately. A direction without a limit beside one with a limit, which only a replay has, costs the other one nothing.

Nothing is kept of an earlier budget but the bucket's debts and a size of frames that still fits, so that a change counts for
the very next batch and update.
"""

import math
from typing import NamedTuple, Protocol

from ams_common.budget import LEAST_BURST_BYTES, RESERVE_FRACTION, Allowance, TokenBucket, allowance
from ams_common.clock import Clock
from ams_common.framing import UPKEEP_BPS
from ams_common.link_speed import LinkSpeed
from ams_common.messages import MAX_BATCH_BYTES, MAX_UPDATE_BYTES
from ams_common.sparse_update import UpdateCodec
from ams_server.cadence import Cadence, batch_cadence
from ams_server.device_budget import DeviceBudget, least_interval_s
from ams_server.frame_size import FrameSize
from ams_server.rate_control import WORTHWHILE_UPDATE_BYTES, RateControlConfig, parameter_limit, update_limit_bytes
from ams_server.wire_costs import batch_cost, largest_payload_bytes, largest_video_bytes, update_cost

EXPECTED_BITS_PER_PARAMETER = 24.0
"""Size of a changed parameter in an update, until the first update has shown it."""
DOWNLOAD_S = 5.0
"""An update is no larger than what the link carries in this time, as far as that is known: on slow links bytes cost more by the
time that they take than they are worth. On a link and a budget of 25 kbit/s updates of 9 to 11 kB ran 3 s earlier than those of
up to 27 kB; mIoU of two drives of CamVid rose by 2.1 points and fell by 0.6, one seed each."""
LONGEST_FRAME_S = 8.0
"""No frame is asked for with more bits than the budget brings in this time, however large the student is, unless even the burst
of the smallest budgets has room for it."""
SIZES_KEPT = 5
"""Batches and updates whose sizes count."""


class Wishes(Protocol):
    """What a learner would like, whatever the budgets are."""

    @property
    def sampling_hz(self) -> float:
        """Frames per second of capture time."""
        ...

    @property
    def least_sampling_hz(self) -> float:
        """Frames per second that it needs at least."""
        ...

    @property
    def update_interval_s(self) -> float:
        """Seconds of capture time from one update to the next, not below the `least_interval_s` of the budgets."""
        ...

    def reference_uplink_bps(self, sampling_hz: float) -> float:
        """Return the rate in bit/s that batches of so many frames a second aim at while the uplink has no limit."""
        ...


class UplinkPlan(NamedTuple):
    """What the device should send from now on, as in `Control`."""

    sampling_hz: float
    batch_interval_s: float
    batch_bytes: int
    frame_width: int
    frame_height: int
    worthwhile_frame_bytes: int


class UpdatePlan(NamedTuple):
    """What an update may be that is made now."""

    limit_bytes: int | None
    """Bytes of its payload at most, no more than MAX_UPDATE_BYTES; None for no limit."""
    parameters: int
    """Parameters that it may change."""


class _Batches(NamedTuple):
    """Batches as they are planned, for updates every `update_interval_s`."""

    sampling_hz: float
    update_interval_s: float
    cadence: Cadence
    video_bytes: int
    wanted_bits: float
    """Bits of video that each frame should have."""

    @property
    def frame_bits(self) -> float:
        """Bits of video for each frame."""
        return 8 * self.video_bytes / self.cadence.frames


class _Sizes:
    """The sizes of the last messages of one kind."""

    def __init__(self) -> None:
        self._sizes_bytes: tuple[int, ...] = ()

    def add(self, size_bytes: int) -> None:
        """Take the size of the newest message; the oldest one counts no more."""
        self._sizes_bytes = (*self._sizes_bytes, size_bytes)[-SIZES_KEPT:]

    def expected_bytes(self, most_bytes: int) -> int:
        """Return `most_bytes`, or less where all of the last ones were smaller.

        In powers of two: each change of what is expected would change the plan of the other direction.
        """
        largest_bytes = max(self._sizes_bytes, default=most_bytes)
        return min(most_bytes, 1 << max(0, largest_bytes - 1).bit_length())


class Spending:
    """The account of one device, kept between its connections."""

    def __init__(
        self, budget: DeviceBudget, *, frame_size: FrameSize, rate_control: RateControlConfig, codec: UpdateCodec, clock: Clock
    ) -> None:
        """Begin with a full bucket, from which updates coded by `codec` are paid."""
        self.budget = budget
        """What holds; `change_budget` changes it."""
        self.frame_size = frame_size
        self.downlink = TokenBucket(allowance(budget.downlink_bps), clock)
        """What the device's streams may still spend."""
        self.link_speed = LinkSpeed()
        """What the downlink carries, as far as updates have shown it."""
        self.bits_per_parameter = EXPECTED_BITS_PER_PARAMETER
        """Size of a changed parameter in the last update."""
        self._rate_control = rate_control
        self._codec = codec
        self._batch_sizes = _Sizes()
        self._update_sizes = _Sizes()

    def change_budget(self, budget: DeviceBudget) -> None:
        """Keep to `budget` from now on; debts stay."""
        self.downlink.change(allowance(budget.downlink_bps))
        if budget == self.budget:
            return
        self.budget = budget
        self._batch_sizes, self._update_sizes = _Sizes(), _Sizes()

    def go_on_with(self, downlink: TokenBucket) -> None:
        """Pay from the bucket that the device has had before, once `change_budget` has said what it lets through.

        Not before: what a device asks for may have no limit where its budget has one, and would forgive its debts.
        """
        self.downlink = downlink

    def batch_came(self, video_bytes: int) -> None:
        """Take the size of a batch."""
        self._batch_sizes.add(video_bytes)

    def update_made(self, payload_bytes: int, candidates: int) -> None:
        """Take the size of an update that was made of so many `candidates`, the parameters that its phase has moved."""
        self._update_sizes.add(payload_bytes)
        if candidates:
            self.bits_per_parameter = 8 * payload_bytes / candidates

    @property
    def least_interval_s(self) -> float:
        """Seconds from one update to the next that the budgets need at least; 0.0 without a limit."""
        return least_interval_s(self.budget)

    def uplink_plan(self, wishes: Wishes) -> UplinkPlan:
        """Return what the device should send from now on."""
        batches = self._planned_batches(wishes)
        width, height = self.frame_size.choose(batches.frame_bits)
        video_bytes = min(MAX_BATCH_BYTES, max(1, batches.video_bytes))
        worthwhile_bytes = min(MAX_BATCH_BYTES, math.ceil(self.frame_size.worthwhile_bits / 8))
        return UplinkPlan(batches.sampling_hz, batches.cadence.interval_s, video_bytes, width, height, worthwhile_bytes)

    def update_plan(self, wishes: Wishes) -> UpdatePlan:
        """Return what an update may be that is made now."""
        limit_bytes = self._update_limit_bytes(wishes)
        if limit_bytes is not None:
            limit_bytes = min(limit_bytes, MAX_UPDATE_BYTES)
        parameters = parameter_limit(self._rate_control, self._codec, limit_bytes, self.bits_per_parameter)
        return UpdatePlan(limit_bytes, parameters)

    def _planned_batches(self, wishes: Wishes) -> _Batches:
        wished = self._batches_at(wishes.sampling_hz, wishes)
        if wished.frame_bits >= wished.wanted_bits:
            return wished
        slower_hz = max(wishes.least_sampling_hz, wishes.sampling_hz * wished.frame_bits / wished.wanted_bits)
        slower_bps, wished_bps = map(wishes.reference_uplink_bps, (slower_hz, wishes.sampling_hz))
        if not self.budget.uplink_bps and slower_bps < wished_bps:
            # Fewer frames would have no more bits each.
            return wished
        return self._batches_at(slower_hz, wishes)

    def _batches_at(self, sampling_hz: float, wishes: Wishes) -> _Batches:
        # Where frames are more seldom than updates should be, an update waits for the next frame.
        update_interval_s = max(wishes.update_interval_s, 1 / sampling_hz)
        answers_bytes = self._answers_bytes(update_interval_s)
        uplink_bps = self._batches_bps(answers_bytes, update_interval_s) or wishes.reference_uplink_bps(sampling_hz)
        allowed = allowance(self.budget.uplink_bps or round(uplink_bps), self.budget.downlink_bps)
        # All answers to an update may go just before a batch, and then are missing from the bucket.
        most_bytes = _large_message_bytes(allowed) - answers_bytes
        budget_bps = self.budget.uplink_bps or uplink_bps
        longest_bits = max(LONGEST_FRAME_S * budget_bps, 8 * LEAST_BURST_BYTES * (1 - RESERVE_FRACTION))
        wanted_bits = min(self.frame_size.wanted_bits(uplink_bps), longest_bits)
        wanted_bytes = min(math.ceil(wanted_bits / 8), largest_video_bytes(most_bytes, 1))
        # A byte more than that, which rounding may take.
        wanted_s = 8 * batch_cost(wanted_bytes + 1, 1).up_bytes / uplink_bps
        cadence = batch_cadence(update_interval_s, sampling_hz, uplink_bps, wanted_s)
        up_bytes = min(most_bytes, uplink_bps * cadence.budgeted_s / 8)
        video_bytes = largest_video_bytes(up_bytes, cadence.frames)
        return _Batches(sampling_hz, update_interval_s, cadence, video_bytes, 8 * wanted_bytes)

    def _answers_bytes(self, update_interval_s: float) -> int:
        """Return what the answers to one update take of the uplink; 0 where one of the budgets has no limit."""
        downlink_bps = self.budget.downlink_bps
        if not self.budget.uplink_bps or not downlink_bps:
            return 0
        inflow_bytes = (downlink_bps - UPKEEP_BPS) * update_interval_s / 8
        most_bytes = update_limit_bytes(inflow_bytes, _large_message_bytes(allowance(downlink_bps)))
        return update_cost(self._update_sizes.expected_bytes(most_bytes)).up_bytes

    def _batches_bps(self, answers_bytes: int, update_interval_s: float) -> float:
        """Return what of the uplink's limit is left for batches beside the answers, at least 1; 0 for no limit."""
        uplink_bps = self.budget.uplink_bps
        return max(1.0, uplink_bps - UPKEEP_BPS - 8 * answers_bytes / update_interval_s) if uplink_bps else 0.0

    def _update_limit_bytes(self, wishes: Wishes) -> int | None:
        downlink_bps, batches = self.budget.downlink_bps, self._planned_batches(wishes)
        inflow_bytes = self._inflow_bytes(downlink_bps, batches, batches.update_interval_s)
        limit_bytes = update_limit_bytes(inflow_bytes, self.downlink.room_bytes) if downlink_bps else None
        carried_bps = self.link_speed.usable_bps(0)
        if not carried_bps:
            return limit_bytes
        download_s = min(batches.update_interval_s, DOWNLOAD_S)
        carried_bytes = largest_payload_bytes(self._inflow_bytes(carried_bps, batches, download_s))
        prompt_bytes = max(WORTHWHILE_UPDATE_BYTES, carried_bytes)
        return prompt_bytes if limit_bytes is None else min(limit_bytes, prompt_bytes)

    def _inflow_bytes(self, downlink_bps: float, batches: _Batches, seconds: float) -> float:
        """Return what `downlink_bps` brings in so many `seconds`, less the answers to `batches`."""
        inflow_bytes = (downlink_bps - UPKEEP_BPS) * seconds / 8
        if not self.budget.uplink_bps:
            return inflow_bytes
        cadence, video_bytes = batches.cadence, self._batch_sizes.expected_bytes(batches.video_bytes)
        answers_bytes = batch_cost(video_bytes, cadence.frames).down_bytes
        return inflow_bytes - answers_bytes * seconds / cadence.interval_s


def _large_message_bytes(allowed: Allowance) -> int:
    """Return what a batch or update may take of a burst."""
    return allowed.burst_bytes - allowed.reserve_bytes
