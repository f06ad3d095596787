import math
from collections.abc import Iterator

import numpy as np
from tests.server.session_support import HEIGHT, WIDTH, ColourTeacher, picture, small_model, small_session

from ams_common.iou import confusion_matrix, mean_iou
from ams_common.layout import weights_digest
from ams_edge.frame import Frame
from ams_edge.runtime_config import RuntimeConfig
from ams_eval.replay import LabelledFrame, Replay, starting_state
from ams_server.edge_session import EdgeSession
from ams_server.students.export import student_vector

RATE_HZ = 5
SECONDS = 40


def border_at(index: int) -> int:
    return 14 + round(6 * math.sin(index / 9))


def film() -> Iterator[Frame]:
    for index in range(RATE_HZ * SECONDS):
        yield Frame(picture(border_at(index)), index=index, capture_time_s=index / RATE_HZ)


def session() -> EdgeSession:
    return small_session(
        steps=15, batch_size=4, fraction=0.2, learning_rate=0.003, update_interval_s=4, min_sampling_hz=1, max_sampling_hz=1
    )


def agreement(labelled: list[LabelledFrame]) -> float:
    """Return the mIoU of the labels against where the film's border is."""
    matrix = np.zeros((2, 2), np.int64)
    for each in labelled:
        truth = np.zeros((HEIGHT, WIDTH), np.uint8)
        truth[: border_at(each.frame.index)] = 1
        matrix += confusion_matrix(truth, each.labels, 2)
    return mean_iou(matrix)


def test_a_replay_learns_from_what_it_has_seen_and_only_then() -> None:
    learner = session()
    replay = Replay(small_model(), learner, RuntimeConfig())
    labelled = list(replay.run(film()))
    assert [each.frame.index for each in labelled] == list(range(RATE_HZ * SECONDS))
    versions = [each.version for each in labelled]
    assert versions == sorted(versions)
    updates = replay.traffic.updates
    assert [update.version for update in updates] == list(range(1, len(updates) + 1))
    assert len(updates) >= 8
    for update in updates:
        first = next((each for each in labelled if each.version == update.version), None)
        if first is not None:
            assert first.frame.capture_time_us > update.newest_capture_time_us
    assert [batch.batch_id for batch in replay.traffic.batches] == list(range(1, len(replay.traffic.batches) + 1))
    assert updates[-1].result_digest == learner.mirror.digest
    early, late = agreement(labelled[: 2 * RATE_HZ]), agreement(labelled[-10 * RATE_HZ :])
    assert late > early + 0.2, (early, late)


def test_the_same_film_and_seed_give_the_same_bytes() -> None:
    def payloads() -> list[bytes]:
        replay = Replay(small_model(), session(), RuntimeConfig())
        for each in replay.run(film()):
            if each.frame.capture_time_s > 9:
                break
        return [update.payload for update in replay.traffic.updates]

    first = payloads()
    assert len(first) >= 2
    assert payloads() == first


def test_without_a_session_the_device_keeps_what_it_starts_with() -> None:
    replay = Replay(small_model(), None, RuntimeConfig())
    labelled = list(replay.run(frame for frame in film() if frame.index < 30))
    assert {each.version for each in labelled} == {0}
    assert not replay.traffic.batches
    assert not replay.traffic.updates


def test_the_teacher_sees_each_sample_once() -> None:
    teacher = ColourTeacher()
    replay = Replay(small_model(), small_session(teacher=teacher, steps=1, update_interval_s=4), RuntimeConfig())
    for _ in replay.run(film()):
        pass
    sent = [time_us / 1e6 for batch in replay.traffic.batches for time_us in batch.capture_times_us]
    assert teacher.capture_times_s == sent == sorted(set(sent))


def test_a_device_starts_with_the_weights_of_the_model() -> None:
    state = starting_state(small_model())
    np.testing.assert_array_equal(state.vector, student_vector(small_model().module))
    assert (state.version, state.weights_digest) == (0, weights_digest(state.vector))
