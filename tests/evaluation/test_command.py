from collections.abc import Sequence

import pytest

from ams_common.errors import ConfigurationError
from ams_eval import command, demo


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_the_subcommands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(arguments) == 0
    shown = capsys.readouterr().out
    for name, (_, what) in command.SUBCOMMANDS.items():
        assert name in shown
        assert what in shown


def test_an_unknown_subcommand_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="unknown subcommand 'dmeo': use run, sweep, local, demo"):
        command.run(["dmeo"])


def test_a_subcommand_gets_the_other_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Sequence[str]] = []

    def fake(arguments: Sequence[str]) -> int:
        seen.append(arguments)
        return 7

    monkeypatch.setattr(demo, "run", fake)
    assert command.run(["demo", "--out", "x"]) == 7
    assert seen == [["--out", "x"]]


def test_errors_become_one_line_and_status_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["ams-eval", "demo", "--video", "/nowhere.mp4", "--teacher", "onnx:x"])
    assert command.main() == 2
    assert capsys.readouterr().err == "ams-eval: --video '/nowhere.mp4' is no file\n"
