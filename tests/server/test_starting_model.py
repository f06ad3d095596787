from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.session_support import HEIGHT, RUN, WIDTH, colour_batch, small_model, small_session, small_settings

from ams_common.errors import ConfigurationError
from ams_server.rounding import rounded_start
from ams_server.starting_model import starting_model, student_classes, warn_of_random_start
from ams_server.students.export import student_vector
from ams_server.students.factory import create_student


def test_every_device_starts_from_the_same_rounded_weights() -> None:
    model = small_model()
    manifest, vector = model.manifest, student_vector(model.module)
    settings = small_settings()
    as_made = student_vector(create_student(settings, manifest.classes, settings.seed))
    np.testing.assert_array_equal(vector, rounded_start(as_made, manifest.layout))
    assert (manifest.student, manifest.width, manifest.height) == ("jitnet-quarter", WIDTH, HEIGHT)
    assert manifest.classes.names == ("road", "sky")
    np.testing.assert_array_equal(small_session().learner.trainer.vector(), vector)


def test_what_one_device_learns_changes_neither_the_start_nor_another_device() -> None:
    start = student_vector(small_model().module)
    learning, waiting = small_session(), small_session()
    learning.ingest(colour_batch(1, 0.0), RUN)
    mirror = learning.train()
    assert mirror is not None
    assert (mirror.weights != start).any()
    for weights in (student_vector(small_model().module), waiting.learner.trainer.vector(), small_session().mirror.weights):
        np.testing.assert_array_equal(weights, start)


def test_the_same_settings_give_the_same_model_and_another_seed_another_one() -> None:
    again, other = (starting_model(small_settings(seed=seed)) for seed in (0, 1))
    assert again.manifest == small_model().manifest
    assert again.graph == small_model().graph
    np.testing.assert_array_equal(student_vector(again.module), student_vector(small_model().module))
    assert (student_vector(other.module) != student_vector(small_model().module)).any()


@pytest.mark.parametrize(("flags", "warnings"), [({}, 1), ({"student_weights": Path("weights.safetensors")}, 0)])
def test_a_start_from_random_numbers_is_told(flags: dict[str, Any], warnings: int, caplog: pytest.LogCaptureFixture) -> None:
    warn_of_random_start(small_settings(**flags))
    assert len(caplog.messages) == warnings
    assert all("--student-weights gives it pretrained ones" in message for message in caplog.messages)


def test_classes_are_taken_in_the_order_of_their_set_and_unknown_ones_are_named() -> None:
    assert student_classes(small_settings(classes=["sky", "road"])).names == ("road", "sky")
    with pytest.raises(ConfigurationError, match="tram"):
        student_classes(small_settings(classes=["road", "tram"]))
    with pytest.raises(ConfigurationError, match="streets"):
        student_classes(small_settings(class_set="streets"))
