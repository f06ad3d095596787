import numpy as np
import pytest
from tests.evaluation.replays import RATE_HZ, stage, truth
from tests.server.session_support import ColourTeacher, small_model

from ams_common.errors import ConfigurationError
from ams_common.iou import confusion_matrix, mean_iou
from ams_eval.replay.device import Shown
from ams_eval.schemes import no_customisation, oracle
from ams_server.students.export import student_vector

SECONDS = 12
CHANGES = {**oracle.SETTINGS, "steps": 60, "learning_rate": 0.003}


def agreement(shown: list[Shown]) -> float:
    matrices = [confusion_matrix(truth(each.frame.index), each.labels, 2) for each in shown]
    return mean_iou(np.sum(matrices, axis=0))


def test_the_student_knows_the_whole_recording_from_its_first_frame_on() -> None:
    teacher = ColourTeacher()
    before = student_vector(small_model().module)
    on = stage(seconds=SECONDS, teacher=teacher, **CHANGES)
    shown = list(oracle.label(on))
    assert [each.frame.index for each in shown] == list(range(SECONDS * RATE_HZ))
    assert agreement(shown[: 2 * RATE_HZ]) > 0.9
    assert agreement(shown) > agreement(list(no_customisation.label(stage(seconds=SECONDS)))) + 0.2
    assert teacher.capture_times_s == pytest.approx([5 * index / RATE_HZ for index in range(SECONDS * RATE_HZ // 5)])
    assert on.journal.frames_labelled == len(teacher.capture_times_s)
    assert not on.journal.transfers
    assert not on.journal.updates
    np.testing.assert_array_equal(student_vector(small_model().module), before)


def test_frames_that_do_not_fit_into_the_buffer_are_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "capacity_for", lambda horizon_s, sampling_hz, width, height: 5)
    on = stage(seconds=SECONDS, **{**CHANGES, "steps": 1})
    list(oracle.label(on))
    # Every 15th of 60 frames: at every 10th there would be 6.
    assert on.journal.frames_labelled == 4


def test_training_that_fails_is_told() -> None:
    on = stage(seconds=2, **{**CHANGES, "steps": 3, "learning_rate": 1e30})
    with pytest.raises(ConfigurationError, match=r"the oracle cannot be trained: .* lower learning_rate"):
        list(oracle.label(on))
