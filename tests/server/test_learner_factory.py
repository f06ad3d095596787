import copy

import numpy as np
import pytest
import torch
from tests.server.session_support import small_session, small_settings
from torch import nn

from ams_common.errors import ConfigurationError
from ams_common.settings import load_settings
from ams_server.flat_model import FlatModel
from ams_server.learners.ams import AmsLearner
from ams_server.learners.factory import LEARNING_RATE, LEARNING_RATE_UNNORMALISED, jit_training, shortest_update_interval_s
from ams_server.learners.just_in_time import JustInTimeLearner
from ams_server.networks.layers import BatchNorm
from ams_server.optimizer import SgdMomentum
from ams_server.settings import ServerSettings
from ams_server.students.export import student_layout


def test_the_scheme_chooses_the_learner() -> None:
    assert isinstance(small_session().learner, AmsLearner)
    learner = small_session(scheme="jit").learner
    assert isinstance(learner, JustInTimeLearner)
    assert isinstance(learner.trainer._optimizer, SgdMomentum)


def test_the_buffer_draws_new_frames_more_often_unless_told_otherwise() -> None:
    """Of two frames far apart the newer one: 6 of 7 draws, or half of them."""
    for recency_s, share in ((10.0, 6 / 7), (0.0, 1 / 2)):
        learner = small_session(horizon_s=1000.0, recency_s=recency_s).learner
        assert isinstance(learner, AmsLearner)
        for label, time_s in enumerate((0.0, 900.0)):
            learner.buffer.add(np.zeros((4, 6, 3), np.uint8), np.full((4, 6), label, np.uint8), time_s)
        _, labels = learner.buffer.sample(4000, torch.Generator().manual_seed(0))
        assert float(labels[:, 0, 0].float().mean()) == pytest.approx(share, abs=0.03)


def test_a_student_that_nothing_normalises_learns_in_small_steps_unless_told_otherwise() -> None:
    plain_module = nn.Sequential(nn.Conv2d(3, 2, 1), BatchNorm(2))
    normalised_module = copy.deepcopy(plain_module)
    normalised_module.get_buffer("1.running_var").copy_(torch.tensor([1.0, 1.5]))
    plain, normalised = (FlatModel(module, student_layout(module)) for module in (plain_module, normalised_module))
    settings = small_settings(scheme="jit", learning_rate=0.5)
    assert jit_training(settings, normalised).learning_rate == LEARNING_RATE
    assert jit_training(settings, plain).learning_rate == LEARNING_RATE_UNNORMALISED
    given = small_settings(scheme="jit", jit_learning_rate=0.02)
    assert [jit_training(given, model).learning_rate for model in (normalised, plain)] == [0.02, 0.02]


def test_budgets_must_carry_the_shortest_interval_of_the_scheme() -> None:
    assert shortest_update_interval_s(small_settings(update_interval_s=7)) == 7
    jit = small_settings(scheme="jit", update_interval_s=7, jit_min_stride=6, jit_camera_hz=20)
    assert shortest_update_interval_s(jit) == pytest.approx(0.3)
    control = small_session(scheme="jit", jit_min_stride=6, jit_camera_hz=20).control()
    assert control.sampling_hz == pytest.approx(1 / 0.3)


@pytest.mark.parametrize("flag", ["--batch-norm=train", "--restore-between-phases"])
def test_single_frames_do_not_go_with_what_a_batch_needs(flag: str) -> None:
    with pytest.raises(ConfigurationError, match="scheme=jit"):
        load_settings(ServerSettings, ["--scheme", "jit", flag])
    assert load_settings(ServerSettings, [flag]).scheme == "ams"


def test_strides_must_be_in_order() -> None:
    with pytest.raises(ConfigurationError, match="jit_min_stride=9 is above jit_max_stride=8"):
        load_settings(ServerSettings, ["--jit-min-stride", "9", "--jit-max-stride", "8"])
