"""Settings: flags over environment over file over preset over default."""

import io
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import SettingsConfigDict

from ams_common.errors import ConfigurationError, SourceError
from ams_common.settings import (
    CommandSettings,
    PartConfig,
    configure_logging,
    home_expanded,
    load_settings,
    overriding,
    run_command,
)


class OvenConfig(PartConfig):
    heat_s: float = Field(default=10.0, gt=0)
    """Seconds of heat."""
    fan: bool = False
    """Whether the fan runs."""
    racks: list[str] = Field(default_factory=list)
    """Racks in use."""
    corners_mm: list[float] = Field(default=[1.0, 2.0], min_length=2, max_length=2)
    """Two corners."""

    @field_validator("heat_s")
    @classmethod
    def _not_too_long(cls, value: float) -> float:
        if value > 1000:
            raise ValueError("nothing bakes that long")
        return value


class BakerySettings(OvenConfig, CommandSettings):
    model_config = SettingsConfigDict(cli_prog_name="bakery")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"slow": {"heat_s": 99.0, "fan": True}}

    preset: Literal["none", "slow"] = "none"
    """Named defaults."""
    tray: str
    """Name of the tray."""
    crust: Literal["", "thin", "thick"] = ""
    """What the crust is like."""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AMS_HEAT_S", "AMS_FAN", "AMS_RACKS", "AMS_CORNERS_MM", "AMS_TRAY", "AMS_CONFIG", "AMS_PRESET"):
        monkeypatch.delenv(name, raising=False)


def load(*arguments: str) -> BakerySettings:
    return load_settings(BakerySettings, arguments)


def test_defaults_and_flags() -> None:
    assert load("--tray", "a").heat_s == 10.0
    loaded = load("--tray=a", "--heat-s", "2.5", "--fan")
    assert (loaded.tray, loaded.heat_s, loaded.fan) == ("a", 2.5, True)
    assert load("--tray=a", "--no-fan").fan is False


def test_the_stronger_source_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bakery.toml"
    path.write_text("heat_s = 3.0\ntray = 'from file'\n")
    arguments = ["--preset", "slow", "--tray", "flag"]
    assert load(*arguments).heat_s == 99.0
    arguments += ["--config", str(path)]
    assert load(*arguments).heat_s == 3.0
    monkeypatch.setenv("AMS_HEAT_S", "4")
    assert load(*arguments).heat_s == 4.0
    assert load(*arguments, "--heat-s", "5").heat_s == 5.0
    loaded = load("--preset", "slow", "--config", str(path))
    assert (loaded.tray, loaded.fan) == ("from file", True), "the preset fills what the file leaves open"


def test_the_file_and_the_preset_may_be_named_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bakery.toml"
    path.write_text("preset = 'slow'\ntray = 'x'\n")
    monkeypatch.setenv("AMS_CONFIG", str(path))
    assert load().heat_s == 99.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--tray is required"),
        (["--tray=a", "--heat-s=0"], r"--heat-s=0: input should be greater than 0"),
        (["--tray=a", "--heat-s=warm"], r"--heat-s=warm: input should be a valid number"),
        (["--tray=a", "--heat-s=nan"], r"--heat-s=nan: must be a number$"),
        (["--tray=a", "--crust=soft"], r"--crust=soft: input should be 'thin' or 'thick'$"),
        (["--tray=a", "--heat-s=2000"], r"--heat-s=2000: nothing bakes that long"),
        (["--tray=a", "--preset=fast"], r"--preset=fast: input should be 'none' or 'slow'"),
        (["--tray=a", "--config=absent.toml"], "settings file 'absent.toml' does not exist"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load(*arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("heat = 3", "unknown setting heat in {path}: did you mean heat_s?"),
        ("xyzzy = 3", "unknown setting xyzzy in {path}"),
        ("heat_s = -1", "heat_s in {path}=-1: input should be greater than 0"),
        ("fan = 'no idea'\nheat_s = 0", "heat_s in {path}=0: input should be greater than 0; fan in {path}=no idea: "),
    ],
)
@pytest.mark.parametrize("by_variable", [False, True])
def test_a_mistake_in_a_file_is_named_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str, by_variable: bool
) -> None:
    path = tmp_path / "bakery.toml"
    path.write_text(text)
    if by_variable:
        monkeypatch.setenv("AMS_CONFIG", str(path))
    with pytest.raises(ConfigurationError) as caught:
        load("--tray=a", *([] if by_variable else ["--config", str(path)]))
    assert str(caught.value).startswith(message.format(path=path))


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bakery.toml"
    path.write_text("heat_s = ")
    with pytest.raises(ConfigurationError, match=r"cannot read settings file '.*bakery.toml': "):
        load("--tray=a", "--config", str(path))


def test_a_mistake_in_the_environment_is_named_with_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bakery.toml"
    path.write_text("heat_s = 5")
    monkeypatch.setenv("AMS_HEAT_S", "-1")
    with pytest.raises(ConfigurationError, match=r"^AMS_HEAT_S=-1: input should be greater than 0$"):
        load("--tray=a", "--config", str(path))
    with pytest.raises(ConfigurationError, match=r"^--heat-s=-2: input should be greater than 0$"):
        load("--tray=a", "--heat-s=-2")


def test_what_a_file_says_in_vain_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bakery.toml"
    path.write_text("heat_s = 5\nfan = true\ncrust = 'thin'\ntray = 'a'")
    monkeypatch.setenv("AMS_HEAT_S", "6")
    names = ("heat_s", "fan", "crust", "racks")
    for flags, stronger in (
        (["--config", str(path), "--no-fan", "--crust=thin", "--racks=top"], ["AMS_HEAT_S", "--fan"]),
        (["--tray=a", "--no-fan"], []),
    ):
        assert overriding(load(*flags), flags, names) == stronger


@pytest.mark.parametrize(
    ("text", "racks"),
    [("top", ["top"]), ("top, low", ["top", "low"]), ('["top", "low"]', ["top", "low"]), ("", []), ("[]", [])],
)
def test_a_list_in_the_environment_is_written_with_commas_or_as_json(
    monkeypatch: pytest.MonkeyPatch, text: str, racks: list[str]
) -> None:
    monkeypatch.setenv("AMS_RACKS", text)
    assert load("--tray=a").racks == racks


def test_numbers_of_a_list_are_read_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMS_CORNERS_MM", "3,4.5")
    assert load("--tray=a").corners_mm == load("--tray=a", "--corners-mm=3,4.5").corners_mm == [3.0, 4.5]
    monkeypatch.setenv("AMS_CORNERS_MM", "3,wide")
    with pytest.raises(ConfigurationError, match=r"^AMS_CORNERS_MM=wide: input should be a valid number"):
        load("--tray=a")
    monkeypatch.setenv("AMS_CORNERS_MM", "[3,")
    with pytest.raises(ConfigurationError, match=r"^AMS_CORNERS_MM=\[3,: is not valid JSON; a list is also written one,two$"):
        load("--tray=a")


def test_an_unknown_flag_is_named() -> None:
    with pytest.raises(ConfigurationError, match="unrecognized arguments: --oven"):
        load("--tray=a", "--oven")


def test_settings_and_parts_are_immutable_and_closed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load("--tray=a").tray = "b"
    with pytest.raises(ValidationError, match="Extra inputs"):
        OvenConfig.model_validate({"gas": 1})


def run(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    def main(arguments: object) -> int:
        assert arguments == ["--loud"]
        raise error

    monkeypatch.setattr(sys, "argv", ["/usr/bin/bakery", "--loud"])
    return run_command(main)


def test_an_expected_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, SourceError("no camera at 3")) == 2
    assert capsys.readouterr().err == "bakery: no camera at 3\n"
    assert run(monkeypatch, KeyboardInterrupt()) == 130
    with pytest.raises(ZeroDivisionError):
        run(monkeypatch, ZeroDivisionError())


def test_a_package_that_is_missing_is_one_line_for_the_product_s_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def needing(missing: str) -> Callable[[object], int]:
        def main(_: object) -> int:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

        return main

    monkeypatch.setattr(sys, "argv", ["/opt/ams/bin/ams-server"])
    assert run_command(needing("torch")) == 2
    assert capsys.readouterr().err == "ams-server: torch is not installed: pip install '.[server]' has all it needs\n"
    with pytest.raises(ModuleNotFoundError):
        run_command(needing("ams_server.nowhere"))
    monkeypatch.setattr(sys, "argv", ["/usr/bin/bakery"])
    with pytest.raises(ModuleNotFoundError):
        run_command(needing("torch"))


def test_a_command_s_status_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bakery"])
    assert run_command(lambda arguments: len(arguments) + 7) == 7


@pytest.mark.parametrize(("verbose", "level"), [(False, logging.INFO), (True, logging.DEBUG)])
def test_logging_goes_to_stderr_and_silences_libraries(monkeypatch: pytest.MonkeyPatch, verbose: bool, level: int) -> None:
    root, stream = logging.RootLogger(logging.WARNING), io.StringIO()
    monkeypatch.setattr(logging, "root", root)
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging(verbose)
    assert root.level == level
    root.warning("hot")
    assert stream.getvalue().endswith(" W root: hot\n")
    assert logging.getLogger("grpc").level == logging.WARNING


def test_the_home_of_nobody_is_one_line(tmp_path: Path) -> None:
    assert home_expanded(tmp_path / "state") == tmp_path / "state"
    with pytest.raises(ConfigurationError, match="'~nobody-at-all/state' begins with the home of somebody who is not known"):
        home_expanded(Path("~nobody-at-all/state"))


def test_a_settings_file_that_may_not_be_looked_at_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refused)
    with pytest.raises(ConfigurationError, match=r"cannot read settings file 'locked/ams.toml': .*ermission denied"):
        load_settings(BakerySettings, ["--tray=a", "--config=locked/ams.toml"])
