from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.edge.tiny_student import tiny_model

from ams_common.clock import ManualClock
from ams_common.messages import Budget
from ams_common.model_file import StoredModel
from ams_common.session.client import ModelReceived, SnapshotAnnounced, SnapshotReceived
from ams_edge.download import Download, size_and_time
from ams_edge.settings import DeviceConfig

MODEL = tiny_model(version=7)
NAMED = ModelReceived(manifest=MODEL.manifest, graph=MODEL.graph, codec="delta-rans")
UNLIMITED = Budget(uplink_bps=0, downlink_bps=0)
WEIGHTS = SnapshotReceived(version=7, vector=MODEL.vector, weights_digest=MODEL.weights_digest)


def download(provisioned: StoredModel | None = None, clock: ManualClock | None = None) -> Download:
    return Download(DeviceConfig(device_id="camera-1", model=Path("first.ams")), provisioned, clock or ManualClock())


def test_what_comes_becomes_the_model_that_was_named() -> None:
    coming = download()
    coming.model_named(replace(NAMED, graph=b"older"))
    coming.model_named(NAMED)
    coming.begin(SnapshotAnnounced(version=7, encoded_bytes=1000, whole=True), UNLIMITED)
    model = coming.finish(WEIGHTS)
    assert (model.manifest, model.graph, model.version) == (MODEL.manifest, MODEL.graph, 7)
    assert model.weights_digest == MODEL.weights_digest
    np.testing.assert_array_equal(model.vector, MODEL.vector)


def test_a_slow_download_is_told_from_its_begin_to_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock = ManualClock()
    coming = download(clock=clock)
    coming.model_named(NAMED)
    coming.begin(SnapshotAnnounced(version=7, encoded_bytes=30_000, whole=True), Budget(uplink_bps=0, downlink_bps=16_000))
    for _ in range(14):
        clock.sleep(1.0)
        coming.add(2000)
    clock.sleep(1.0)
    coming.finish(WEIGHTS)
    assert caplog.messages == [
        "receiving version 7: 30 kB, up to 24 s at 16 kbit/s with pictures going up",
        "received 20 of 30 kB at 16 kbit/s, about 5 s to go",
        "received 30 kB in 15 s",
    ]


def test_a_model_other_than_the_provisioned_one_is_told_with_what_differs(caplog: pytest.LogCaptureFixture) -> None:
    download(MODEL).model_named(NAMED)
    download(None).model_named(NAMED)
    assert not caplog.messages
    download(tiny_model(seed=5)).model_named(replace(NAMED, manifest=replace(MODEL.manifest, graph_digest=bytes(16))))
    older = replace(MODEL, manifest=replace(MODEL.manifest, student="older"))
    download(older).model_named(NAMED)
    start = "--model first.ams is of no use for this server and a model is downloaded: it holds "
    size = "for 48x32 pixels with classes road, sky, car"
    assert caplog.messages == [
        f"{start}another build of it than the server has",
        f"{start}older {size}, the server has {MODEL.manifest.student} {size}",
    ]


def test_a_whole_model_that_comes_in_spite_of_a_provisioned_one_is_told_with_the_way_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for provisioned, whole in ((MODEL, False), (None, True), (tiny_model(seed=5), True)):
        coming = download(provisioned)
        coming.model_named(NAMED)
        coming.begin(SnapshotAnnounced(version=7, encoded_bytes=1000, whole=whole), UNLIMITED)
    assert caplog.messages == [
        "--model first.ams is of no use for this server and a model is downloaded: it holds other weights than the server "
        "starts from, make it again with ams-server provision and the server's --student-weights"
    ]


def test_a_download_without_a_budget_has_no_time() -> None:
    assert size_and_time(12_400, UNLIMITED) == "12 kB"


@given(st.integers(0, 10**6), st.integers(1, 1000))
def test_a_budget_that_is_hardly_one_has_a_time_too(uplink_bps: int, downlink_bps: int) -> None:
    told = size_and_time(12_400, Budget(uplink_bps=uplink_bps, downlink_bps=downlink_bps))
    seconds = float(told.split(" ")[4])
    assert 8 * 12_400 / downlink_bps <= seconds <= 8 * 8 * 12_400 / downlink_bps
