from pathlib import Path

import pytest

from ams_common.errors import ConfigurationError
from ams_eval.schemes.registry import SCHEMES, parse_scheme

OWN = """
from ams_eval.schemes.no_customisation import label as still

def label(stage):
    yield from still(stage)
"""


def own(folder: Path, text: str = OWN, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_has_settings_that_fit_together(name: str) -> None:
    scheme = parse_scheme(name)
    assert scheme.name == name
    assert scheme.identity() == {}
    assert scheme.config({"batch_size": 3, "scheme": "jit"}, seed=5).seed == 5


def test_a_preset_gives_way_to_the_user_and_the_user_to_the_scheme() -> None:
    given = {"steps": 3, "selection": "random"}
    assert parse_scheme("paper").config({}, 0).steps == 20
    assert parse_scheme("paper").config({}, 0).codec == "mask-float16"
    assert parse_scheme("paper").config(given, 0).steps == 3
    assert parse_scheme("full").config(given, 0).selection == "full"
    assert parse_scheme("authors_code").config({}, 0).steps == 200
    chosen = parse_scheme("paper:selection=last_layers:fraction=0.01:update-interval-s=20").config(given, 0)
    assert (chosen.selection, chosen.fraction, chosen.update_interval_s, chosen.steps) == ("last_layers", 0.01, 20.0, 3)


def test_just_in_time_and_streaming_do_not_take_each_other_s_place() -> None:
    assert parse_scheme("jit").config({"scheme": "ams"}, 0).scheme == "jit"
    assert parse_scheme("jit-full").config({}, 0).selection == "full"
    for name in ("ams", "paper", "authors_code", "full", "one-time"):
        assert parse_scheme(name).config({"scheme": "jit"}, 0).scheme == "ams"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("amz", "unknown scheme 'amz': use none, one-time, "),
        ("", "unknown scheme ''"),
        ("ams:stepps=3", "unknown setting 'stepps=3' of a scheme"),
        ("ams:steps", "unknown setting 'steps' of a scheme"),
        ("nowhere.py", "scheme file 'nowhere.py' does not exist"),
    ],
)
def test_what_is_no_scheme_is_named_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_scheme(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ams:steps=many", "scheme 'ams:steps=many': steps='many': input should be a valid integer"),
        ("ams:fraction=2", "scheme 'ams:fraction=2': fraction='2': input should be less than or equal to 1"),
        ("jit:restore-between-phases=true", "scheme 'jit:restore-between-phases=true': "),
    ],
)
def test_a_value_that_cannot_be_used_is_named_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_scheme(text).config({}, 0)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_scheme_of_one_s_own(tmp_path: Path) -> None:
    path = own(tmp_path)
    scheme = parse_scheme(f"{path}:steps=4")
    assert scheme.name == "mine:steps=4"
    assert scheme.config({}, 0).steps == 4
    before = scheme.identity()
    assert before == parse_scheme(str(path)).identity()
    own(tmp_path, OWN + "\n")
    assert parse_scheme(str(path)).identity() != before


def test_a_file_cannot_pass_for_a_scheme_of_the_product(tmp_path: Path) -> None:
    mine = tmp_path / "none.py"
    mine.write_text("from ams_eval.schemes.no_customisation import label\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"none\.py' has the name of another scheme, 'none': rename it"):
        parse_scheme(str(mine))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "has no function label"),
        ("label = 3", "has no function label"),
        ("import nothing_of_that_name", "fails in line 1: ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("def label(:", "fails: SyntaxError"),
    ],
)
def test_a_file_that_is_no_scheme_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = own(tmp_path, text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        parse_scheme(str(path))
    assert str(caught.value).startswith(f"scheme file '{path}' ")
