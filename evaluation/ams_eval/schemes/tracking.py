"""Remote inference with tracking: the teacher labels a picture a second, and optical flow carries its labels to every frame.

As in the AMS paper (section 4.1) the device sends single JPEG pictures at a high quality, since waiting to compress several
of them together would make the labels stale, and gets label maps back, here as PNG files. A label map holds for its own picture
from the moment it arrives, which without latency is at once: the sampled frame itself is then shown with it. One that arrives
later is carried from the picture that it belongs to, along all the flow since. Until the first one is there the pretrained
student labels.

Flow is computed between any two frames that follow on each other, also when only some are scored, and is taken to cost no
time: the paper does so in favour of this scheme. A recording of one frame a second leaves nothing to track: without latency its
labels are those of the teacher on JPEG pictures. Of stated latencies labelling alone counts, the others are those of video and
updates.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from ams_common.budget import TokenBucket, allowance
from ams_common.classes import IGNORE, UInt8Array
from ams_common.messages import Control
from ams_edge.frame import Frame
from ams_edge.sampler import Sample, Sampler
from ams_eval.references import resized
from ams_eval.replay.device import Shown
from ams_eval.replay.journal import wire_bytes
from ams_eval.replay.latency import parse_latency
from ams_eval.replay.link import Link, parse_link
from ams_eval.replay.sending import PacedSender
from ams_eval.schemes.base import Stage
from ams_eval.schemes.flow import Trail, backward_flow

PICTURE_HZ = 1.0
"""Pictures a second that the teacher labels."""
PICTURE_WIDTH, PICTURE_HEIGHT = 1024, 512
"""Most pixels of a picture, for teacher and flow alike."""
JPEG_QUALITY = 95
"""In place of the paper's "full quality" of about 2 Mbit/s; 75 takes a third."""
MOST_UNDERWAY = 2
"""Pictures whose labels are not back yet; while there are so many no further one is sent, or labels would grow ever staler."""
HEADER_BYTES = 16
"""What a picture or a label map needs beside its file: capture time and number."""


@dataclass(frozen=True, kw_only=True)
class _File:
    """A picture or a label map on its way."""

    data: bytes
    capture_time_us: int


@dataclass(kw_only=True, eq=False)
class _Tracked:
    """A picture that was sent, with its labels once they are back."""

    trail: Trail
    labels: UInt8Array | None = None


def label(stage: Stage) -> Iterator[Shown]:
    """Yield the teacher's labels, carried along."""
    device = _TrackingDevice(stage)
    for frame in stage.recording.frames():
        device.follow(frame)
        if stage.scores(frame):
            yield Shown(frame=frame, labels=device.labels(frame))


class _TrackingDevice:
    """A device that sends pictures to `_RemoteTeacher` and carries along the labels that come back."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._timeline = stage.timeline()
        self._still = stage.still_device()
        control = Control(
            sampling_hz=PICTURE_HZ, batch_interval_s=1.0, batch_bytes=1, frame_width=PICTURE_WIDTH, frame_height=PICTURE_HEIGHT
        )
        self._sampler = Sampler(control)
        self._previous: UInt8Array | None = None
        self._underway: dict[int, _Tracked] = {}
        """By capture time, in the order in which they were sent."""
        self._tracked: _Tracked | None = None
        """The newest picture whose labels are back."""
        latency, link = parse_latency(stage.network.latency), parse_link(stage.network.link)
        self._measured, self._label_s = latency.measured, latency.label_s
        self._teacher_free_s = 0.0
        self._up = TokenBucket(allowance(stage.budget.uplink_bps, stage.budget.downlink_bps), self._timeline.clock)
        self._down = TokenBucket(allowance(stage.budget.downlink_bps), self._timeline.clock)
        self._uplink = PacedSender[_File](
            self._timeline,
            Link(self._timeline, link.up, link.delay_s),
            on_sent=lambda file, time_s: stage.journal.transfer(time_s, "up", "frames", len(file.data), _on_wire(file)),
            on_arrival=self._arrive_at_teacher,
        )
        self._downlink = PacedSender[_File](
            self._timeline,
            Link(self._timeline, link.down, link.delay_s),
            on_sent=lambda file, time_s: stage.journal.transfer(time_s, "down", "labels", len(file.data), _on_wire(file)),
            on_arrival=self._arrive_at_device,
        )

    def follow(self, frame: Frame) -> None:
        """Carry the labels on to the next frame, and send it if one is due."""
        self._timeline.run_until(frame.capture_time_s)
        width, height = min(PICTURE_WIDTH, frame.width) // 2 * 2, min(PICTURE_HEIGHT, frame.height) // 2 * 2
        grey = np.asarray(cv2.cvtColor(frame.rgb(width, height), cv2.COLOR_RGB2GRAY), np.uint8)
        self._advance(grey)
        self._sampler.offer(frame)
        samples = self._sampler.flush()
        if samples and len(self._underway) < MOST_UNDERWAY:
            self._underway[samples[0].capture_time_us] = _Tracked(trail=Trail(height, width))
            self._send(samples[0])
        self._timeline.run_until(frame.capture_time_s)

    def labels(self, frame: Frame) -> UInt8Array:
        """Return what is shown for `frame`, the last one followed: uint8 [height, width] at the student's size."""
        if self._tracked is None:
            return self._still.labels(frame)
        assert self._tracked.labels is not None
        manifest = self._stage.model.manifest
        return resized(self._tracked.trail.carry(self._tracked.labels), (manifest.width, manifest.height))

    def _advance(self, grey: UInt8Array) -> None:
        followed = [*self._underway.values(), *([self._tracked] if self._tracked else [])]
        if self._previous is not None and followed:
            with self._stage.profile.part("optical flow"):
                flow = backward_flow(grey, self._previous)
                for tracked in followed:
                    tracked.trail.advance(flow)
        self._previous = grey

    def _send(self, sample: Sample) -> None:
        data, measured_s = self._timeline.clock.time(lambda: _jpeg(sample.image))
        file = _File(data=data, capture_time_us=sample.capture_time_us)
        send = functools.partial(self._uplink.send, file, len(data) + HEADER_BYTES, self._up, large=True)
        self._timeline.at(self._timeline.now_s + measured_s, send)

    def _arrive_at_teacher(self, file: _File) -> None:
        data, measured_s = self._timeline.clock.time(lambda: self._teach(file))
        labels = _File(data=data, capture_time_us=file.capture_time_us)
        start_s = max(self._timeline.now_s, self._teacher_free_s)
        self._teacher_free_s = start_s + (measured_s if self._measured else self._label_s)
        send = functools.partial(self._downlink.send, labels, len(data) + HEADER_BYTES, self._down, large=True)
        self._timeline.at(self._teacher_free_s, send)

    def _teach(self, file: _File) -> bytes:
        """Return the teacher's labels of a picture, in the student's classes, as a PNG file."""
        stage = self._stage
        image = _decoded(file.data, cv2.IMREAD_COLOR_RGB)
        labels = stage.teacher.label(image[None], [file.capture_time_us / 1e6])[0]
        stage.journal.frames_labelled += 1
        table = stage.teacher.classes.lookup_into(stage.model.manifest.classes)
        return _png(nearest_known(np.asarray(table[labels], np.uint8)))

    def _arrive_at_device(self, file: _File) -> None:
        self._tracked = self._underway.pop(file.capture_time_us)
        self._tracked.labels = _decoded(file.data, cv2.IMREAD_GRAYSCALE)


def nearest_known(labels: UInt8Array) -> UInt8Array:
    """Return `labels`, uint8 [H, W], with every IGNORE replaced by the nearest other label; unchanged where there is none.

    A device shows one of its classes everywhere, and what is shown without a class would escape the scores.
    """
    unknown = labels == IGNORE
    if unknown.all() or not unknown.any():
        return labels
    _, nearest = cv2.distanceTransformWithLabels(unknown.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    of_source = np.zeros(int(nearest.max()) + 1, np.uint8)
    of_source[nearest[~unknown]] = labels[~unknown]
    return of_source[nearest]


def _jpeg(image: UInt8Array) -> bytes:
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done
    return data.tobytes()


def _png(labels: UInt8Array) -> bytes:
    done, data = cv2.imencode(".png", labels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert done
    return data.tobytes()


def _decoded(data: bytes, how: int) -> UInt8Array:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    assert image is not None
    return np.asarray(image, np.uint8)


def _on_wire(file: _File) -> int:
    return wire_bytes(len(file.data) + HEADER_BYTES)
