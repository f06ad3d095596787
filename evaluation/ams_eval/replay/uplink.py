"""The sending half of a device in a replay: the product's sampler, encoder and outbox, driven by virtual time."""

import logging
import math
from collections.abc import Callable

from ams_common.budget import TokenBucket, allowance
from ams_common.errors import CodecError
from ams_common.flights import Flights
from ams_common.link_speed import LinkSpeed, worthwhile_bytes
from ams_common.messages import ClientMessage, Control, FrameBatch
from ams_common.session.outbox import BatchOutbox
from ams_common.wire import client_message_from_proto, client_message_to_proto
from ams_edge.encoder import BatchEncoder, agreed_codec
from ams_edge.frame import Frame
from ams_edge.frame_filter import View
from ams_edge.link import LinkConfig
from ams_edge.link_plan import as_carried
from ams_edge.sampler import Sample, Sampler
from ams_eval.replay.journal import wire_bytes
from ams_eval.replay.link import Link
from ams_eval.replay.sending import PacedSender
from ams_eval.replay.surroundings import Surroundings
from ams_eval.replay.update_book import UpdateBook
from ams_server.device_budget import DeviceBudget

_log = logging.getLogger(__name__)


class Uplink:
    """Samples frames, and sends batches of them and small messages."""

    def __init__(
        self,
        surroundings: Surroundings,
        book: UpdateBook,
        control: Control,
        *,
        budget: DeviceBudget,
        on_arrival: Callable[[ClientMessage], None],
    ) -> None:
        """Sample as `control` asks for; `on_arrival` is called when a message is at the server.

        Args:
            surroundings: of the device.
            book: takes note of the batches.
            control: what the server asks for at first.
            budget: of both directions; the uplink is kept to.
            on_arrival: takes each message at the virtual time of its arrival.
        """
        timeline, link = surroundings.timeline, surroundings.link
        self._surroundings = surroundings
        self._book = book
        self._control = control
        self._sampler = Sampler(control, surroundings.frame_filter)
        self._outbox = BatchOutbox(LinkConfig.model_fields["outbox_s"].default)
        self._encoder = BatchEncoder()
        self._encoder_free_s = 0.0
        self._bucket = TokenBucket(allowance(budget.uplink_bps, budget.downlink_bps), timeline.clock)
        self._sender = PacedSender[ClientMessage](
            timeline,
            Link(timeline, link.up, link.delay_s),
            on_sent=self._leave,
            on_arrival=on_arrival,
        )
        self._flights = Flights(timeline.clock)
        self._speed = LinkSpeed()

    def obey(self, control: Control) -> None:
        """Sample as `control` asks for, from the next frame on."""
        self._control = control

    def offer(self, frame: Frame, look: Callable[[], View]) -> None:
        """Sample `frame` if one is due and is worth it by what `look` returns, and send a batch if its interval is over."""
        control = as_carried(self._control, self._speed.usable_bps(0, self._flights.waiting) or math.inf)
        self._sampler.set_control(control)
        self._sampler.offer(frame, look)
        samples = self._sampler.cut(frame.capture_time_s)
        if samples is not None:
            self._encode(samples, frame.capture_time_s, control.batch_bytes)

    def acknowledge(self, batch_id: int) -> None:
        """Take note that the server has a batch."""
        self._outbox.acknowledge(batch_id)
        flight = self._flights.arrive(batch_id)
        if flight is not None:
            self._speed.observe(flight)
            self._outbox.shorten(worthwhile_bytes(flight, self._bucket))
        self._send_batches()

    def send(self, message: ClientMessage) -> None:
        """Queue a message."""
        proto = client_message_to_proto(message)
        parsed = client_message_from_proto(proto)
        self._sender.send(parsed, proto.ByteSize(), self._bucket, large=isinstance(message, FrameBatch))

    def _leave(self, message: ClientMessage, time_s: float) -> None:
        """Take note of a message that the link takes now and whose last byte leaves at `time_s`."""
        self._surroundings.journal.sent_by_device(time_s, message)
        if isinstance(message, FrameBatch):
            self._flights.depart(message.batch_id, wire_bytes(message.payload_bytes))

    def _encode(self, samples: list[Sample], cut_s: float, most_bytes: int) -> None:
        latency = self._surroundings.latency
        with self._surroundings.profile.part("coding of video"):
            batch, measured_s = self._surroundings.timeline.clock.time(lambda: self._encoded(samples, most_bytes))
        start_s = max(cut_s, self._encoder_free_s)
        self._encoder_free_s = start_s + (measured_s if latency.measured else latency.encode_s)
        if batch is None:
            return
        self._book.batch_cut(batch.batch_id, newest_capture_s=batch.capture_times_us[-1] / 1e6, cut_s=cut_s)
        self._surroundings.timeline.at(self._encoder_free_s, lambda: self._put_out(batch))

    def _encoded(self, samples: list[Sample], most_bytes: int) -> FrameBatch | None:
        """Return the batch of `samples`; None where not even one fits: the product's worker gives such a batch up too."""
        try:
            video_codec = agreed_codec(self._surroundings.video_codec, self._control)
            return self._encoder.encode(samples, most_bytes, video_codec)
        except CodecError as error:
            _log.warning("a batch was not sent: %s", error)
            return None

    def _put_out(self, batch: FrameBatch) -> None:
        self._book.batch_encoded(batch.batch_id)
        self._outbox.add(batch)
        self._send_batches()

    def _send_batches(self) -> None:
        """Hand the link one batch at a time: those that wait may still be given up for newer ones."""
        batch = self._outbox.peek()
        if batch is not None and self._sender.backlog == 0:
            self._outbox.pop()
            self.send(batch)
