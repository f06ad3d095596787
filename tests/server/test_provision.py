import logging
from pathlib import Path

import numpy as np
import pytest
from tests.server.session_support import HEIGHT, WIDTH, small_model

from ams_common.errors import AmsError, ConfigurationError
from ams_common.model_file import read_model
from ams_server import command
from ams_server.students.export import student_vector

STUDENT = [
    *("--student", "jitnet-quarter", "--student-width", str(WIDTH), "--student-height", str(HEIGHT)),
    *("--class-set", "street7", "--classes", "road,sky"),
]


def provision(*arguments: str) -> int:
    return command.run(["provision", *STUDENT, *arguments])


def test_the_file_holds_what_a_server_with_the_same_settings_starts_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "model.ams"
    assert provision("--out", str(path)) == 0
    model, start = read_model(path), small_model()
    assert (model.manifest, model.graph, model.version) == (start.manifest, start.graph, 0)
    np.testing.assert_array_equal(model.vector, student_vector(start.module))
    assert "model.ams holds jitnet-quarter for 64x32 pixels, classes road, sky: " in caplog.text


def test_the_file_of_a_server_s_settings_does(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    lines = ['student = "jitnet-quarter"', f"student_width = {WIDTH}", f"student_height = {HEIGHT}", 'listen = "[::]:50051"']
    config.write_text("\n".join([*lines, 'teacher = "efficientvit-b0"', 'class_set = "street7"', 'classes = ["road", "sky"]']))
    assert command.run(["provision", "--config", str(config), "--out", str(tmp_path / "model.ams")]) == 0
    assert read_model(tmp_path / "model.ams").manifest == small_model().manifest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--out is required"),
        (["--out", "/nowhere/model.ams"], "cannot write --out '/nowhere/model.ams': there is no such folder"),
        (["--out", "model.ams", "--student-width", "33"], "student size 33x32"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(AmsError, match=message):
        provision(*arguments)


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot write --out '.*': is a directory"):
        provision("--out", str(tmp_path))


def test_a_mistyped_subcommand_is_named() -> None:
    with pytest.raises(ConfigurationError, match="unknown subcommand 'provison': use admin or provision, or none to serve"):
        command.run(["provison", "--out", "model.ams"])
