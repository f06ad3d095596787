"""What a person reads who asks a command for help."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field
from pydantic_settings import CliPositionalArg, CliSuppress, SettingsConfigDict, SettingsError

from ams_common.command_line import command_line, flag
from ams_common.settings import CommandSettings, PartConfig


class OvenConfig(PartConfig):
    """How it bakes. The rest of this is for readers of the code."""

    heat_s: float = 10.0
    """Seconds of heat, at most 100 %."""
    power_kbps: float = 0.001
    """Power."""
    window_width: int = 0
    """Width of the window."""
    fan: bool = False
    """Whether the fan runs."""
    mode: Literal["", "top", "both"] = ""
    """Which coils glow."""
    programme: Literal["bread_with_seeds", "cake_with_cherries", "pizza_with_pineapple"] = "bread_with_seeds"
    """What it bakes."""
    corners_mm: list[float] = Field(default=[1.0, 2.5], min_length=2, max_length=2)
    """Two corners."""


class KitchenConfig(PartConfig):
    """Where it stands."""

    server: str = "localhost:1"
    """Address."""
    recipes: list[str] = Field(default_factory=list)
    """Recipes to take."""
    ounces: list[float] = Field(default_factory=list)
    """Weights."""
    book: Path | None = None
    """A book."""
    shelf: Path = Path("shelf")
    """Where books are."""


class BakerySettings(OvenConfig, KitchenConfig, CommandSettings):
    """Bake."""

    model_config = SettingsConfigDict(cli_prog_name="bakery")

    tray_name: str
    """Name of the tray."""
    guests: int = 1000000
    """Guests to feed."""
    fan: bool = True
    """Whether the fan runs here."""
    yeast: CliSuppress[str] = ""
    """A secret of this bakery."""


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as caught:
        command_line(BakerySettings, ["--help"])
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_each_flag_stands_under_the_heading_of_its_part(shown: str) -> None:
    titles = ("options", "How it bakes", "Where it stands")
    sections = [part.split("\n\n")[0] for part in shown.split(":\n")[1:]]
    assert [title for title in titles if f"\n{title}:\n" in shown] == list(titles)
    command, oven, kitchen = sections
    for part, flags in ((command, "help config tray-name guests"), (oven, "heat-s mode fan"), (kitchen, "server book")):
        assert all(f"--{each}" in part for each in flags.split())
        assert sum(f"--{each}" in other for each in flags.split() for other in sections) == len(flags.split())


class TourSettings(CommandSettings):
    """Visit."""

    model_config = SettingsConfigDict(cli_prog_name="tour")

    start: CliPositionalArg[Path]
    """Where it begins."""
    stops: CliPositionalArg[list[Path]]
    """What is visited."""
    guide: str
    """Who leads."""


def test_arguments_without_a_flag_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line(TourSettings, ["--help"])
    assert "usage: tour START STOPS ... --guide GUIDE [options]\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "entry",
    [
        "usage: bakery --tray-name NAME [options]",
        "--tray-name NAME Name of the tray. (required)",
        "--guests N Guests to feed. (default: 1000000)",
        "--config PATH TOML file with any of these settings",
        "--heat-s SECONDS Seconds of heat, at most 100 %. (default: 10)",
        "--power-kbps KBPS Power. (default: 0.001)",
        "--window-width PIXELS Width of the window. (default: 0)",
        "--fan, --no-fan Whether the fan runs here. (default: on)",
        "--mode {top,both} Which coils glow. --programme",
        "--programme PROGRAMME What it bakes. One of bread_with_seeds, cake_with_cherries, pizza_with_pineapple. (default: bre",
        "--corners-mm N,... Two corners. (default: 1.0,2.5)",
        "--server HOST:PORT Address. (default: localhost:1)",
        "--recipes NAME,... Recipes to take. --ounces",
        "--ounces N,... Weights. --book",
        "--book PATH A book. --shelf",
        "--shelf PATH Where books are. (default: shelf)",
    ],
)
def test_values_have_units_and_defaults_are_plain(shown: str, entry: str) -> None:
    assert entry in " ".join(shown.split())


def test_lines_stay_readable_on_a_wide_terminal(shown: str) -> None:
    assert 80 < max(map(len, shown.splitlines())) <= 110


def test_what_is_hidden_is_not_shown_and_can_still_be_given(shown: str) -> None:
    assert "yeast" not in shown
    assert "secret" not in shown
    assert command_line(BakerySettings, ["--yeast", "mine"])() == {"yeast": "mine"}


def test_arguments_become_settings() -> None:
    source = command_line(BakerySettings, ["--heat-s", "2", "--recipes=a,b", "--no-fan"])
    assert source() == {"heat_s": "2", "recipes": ["a", "b"], "fan": False}
    assert flag("heat_s") == "--heat-s"


def test_a_flag_that_is_unknown_or_has_no_value_is_refused() -> None:
    for arguments, message in ((["--oven"], "unrecognized arguments: --oven"), (["--heat-s"], "argument --heat-s: expected")):
        with pytest.raises(SettingsError, match=message):
            command_line(BakerySettings, arguments)
