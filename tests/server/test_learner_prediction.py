import numpy as np
import pytest
import torch
from tests.server.session_support import HEIGHT, RUN, WIDTH, colour_batch, picture, small_session
from torch.nn.modules.batchnorm import _BatchNorm

from ams_common.classes import UInt8Array
from ams_server.edge_session import EdgeSession
from ams_server.learners.prediction import best_labels, student_labels


def trained_session() -> EdgeSession:
    session = small_session(steps=20, batch_norm="train")
    session.ingest(colour_batch(1, 1.0, 2.0, 3.0), RUN)
    mirror = session.train()
    assert mirror is not None
    session.mirror = mirror
    return session


def predicted(session: EdgeSession, image: UInt8Array) -> UInt8Array:
    return student_labels(session.learner.trainer, image)


def test_the_best_class_of_each_pixel_is_that_of_the_upsampled_logits() -> None:
    logits = torch.tensor([[[[2.0, -2.0]], [[-1.0, 1.0]]]])
    labels = best_labels(logits, (3, 8))
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, [[0, 0, 0, 0, 1, 1, 1, 1]] * 3)


def test_labels_have_the_size_of_the_picture_and_follow_the_weights() -> None:
    session = trained_session()
    before = predicted(session, picture(12))
    assert before.shape == (HEIGHT, WIDTH)
    weights = session.mirror.weights.copy()
    session.learner.trainer.adopt(-weights)
    assert not np.array_equal(predicted(session, picture(12)), before)
    session.learner.trainer.adopt(weights)
    np.testing.assert_array_equal(predicted(session, picture(12)), before)


def test_asking_changes_neither_the_weights_nor_what_is_learnt_next() -> None:
    asked, other = trained_session(), trained_session()
    for border in (3, 20, 31):
        predicted(asked, picture(border))
    np.testing.assert_array_equal(asked.learner.trainer.vector(), other.learner.trainer.vector())
    mirrors = [session.train() for session in (asked, other)]
    assert mirrors[0] is not None
    assert mirrors[1] is not None
    assert mirrors[0].digest == mirrors[1].digest != asked.mirror.digest


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_the_student_is_asked_as_the_device_runs_it(batch_norm: str) -> None:
    session = small_session(batch_norm=batch_norm)
    session.ingest(colour_batch(1, 1.0, 2.0), RUN)
    session.train()
    norms = [each for each in session.learner.trainer.model.module.modules() if isinstance(each, _BatchNorm)]
    assert norms
    assert not any(each.training for each in norms)


def test_a_read_only_picture_is_taken() -> None:
    image = picture(12)
    image.setflags(write=False)
    assert predicted(small_session(), image).shape == (HEIGHT, WIDTH)
