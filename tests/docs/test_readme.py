"""Every word of the README that can be checked: flags, classes, presets, the tree, links, and the Python example."""

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest
from pydantic_settings import CliPositionalArg
from tests.edge.tiny_student import tiny_model
from tests.edge.videos import tenths, write_video

from ams_common.classes import BUILT_IN, load_class_set
from ams_common.clock import SystemClock
from ams_common.settings import CommandSettings, load_settings
from ams_common.update_codec import CODECS
from ams_edge.settings import AgentSettings
from ams_edge.store import ModelStore, StoreConfig
from ams_edge.update_way import Way
from ams_eval.compare import CompareSettings
from ams_eval.demo_settings import DemoSettings
from ams_eval.local import LocalSettings
from ams_eval.run import RunSettings
from ams_eval.schemes.registry import SCHEMES
from ams_eval.sweeps.command import SweepSettings
from ams_server.admin_command import AdminSettings
from ams_server.networks.efficientvit import efficientvit_seg
from ams_server.presets import PRESETS
from ams_server.provision import ProvisionSettings
from ams_server.settings import ServerSettings
from ams_server.students.registry import STUDENTS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
COMMANDS: dict[str, type[CommandSettings]] = {
    "ams-server": ServerSettings,
    "ams-server admin": AdminSettings,
    "ams-server provision": ProvisionSettings,
    "ams-edge": AgentSettings,
    "ams-eval demo": DemoSettings,
    "ams-eval run": RunSettings,
    "ams-eval sweep": SweepSettings,
    "ams-eval local": LocalSettings,
    "ams-eval compare": CompareSettings,
}
POSITIONAL = get_args(CliPositionalArg[str])[1]
"""Marks a setting that is given without a flag."""
ROOMS = ("protos", "common", "edge", "server", "evaluation", "scripts", "benchmarks")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
OTHER_FLAGS = {"--help", "--check"}
"""Of every command, and of scripts/generate_protos.py."""


def blocks(language: str, text: str = README) -> list[str]:
    """Return the fenced blocks of that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def help_flags(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    with suppress(SystemExit):
        load_settings(COMMANDS[command], ["--help"])
    return set(FLAG.findall(capsys.readouterr().out))


def section(title: str) -> str:
    """Return the part of the README under a heading, up to the next heading."""
    match = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#)", README, re.MULTILINE | re.DOTALL)
    assert match, f"no section {title!r}"
    return match.group(1)


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of all rows of tables, headings left out."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    rules = {index for index, row in enumerate(rows) if set(row[0]) == {"-"}}
    return [row for index, row in enumerate(rows) if index not in rules and index + 1 not in rules]


# --- flags and settings


def test_commands_in_the_shell_blocks_use_flags_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    found = 0
    for line in lines:
        for command in COMMANDS:
            longer = any(other != command and other.startswith(command) and f"{other} " in line for other in COMMANDS)
            if re.search(rf"(^|/){command} ", line) and not longer:
                found += 1
                assert set(FLAG.findall(line)) <= help_flags(command, capsys), line
    assert found >= 2
    demo = [line for line in lines if "DEMO_ARGS" in line]
    assert demo
    assert set(FLAG.findall("".join(demo))) <= help_flags("ams-eval demo", capsys)


def test_a_reader_who_copies_the_commands_gets_valid_settings() -> None:
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    for command in ("ams-server", "ams-edge"):
        (line,) = (line for line in lines if f"/{command} " in line)
        load_settings(COMMANDS[command], line.split()[1:])


def test_every_flag_in_the_texts_is_one_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    known = OTHER_FLAGS.union(*(help_flags(command, capsys) for command in COMMANDS))
    protocol = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    evaluation = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert set(FLAG.findall(README + CHANGELOG + protocol + design + evaluation)) <= known


@pytest.mark.parametrize("command", COMMANDS)
def test_the_tables_name_every_flag_with_its_class_and_file(command: str) -> None:
    told: set[str] = set()
    for row in table_rows(section(f"`{command}`")):
        if len(row) != 3:
            continue
        _, home, flags = row
        name, path = re.findall(r"`([^`]+)`", home)
        room, _, module = path.removesuffix(".py").partition("/")
        assert room in ROOMS
        configuration = getattr(import_module(module.replace("/", ".")), name)
        inherited = {field for base in configuration.__bases__ for field in getattr(base, "model_fields", {})}
        fields = {each for each, field in configuration.model_fields.items() if POSITIONAL not in field.metadata} - inherited
        assert set(FLAG.findall(flags)) == {f"--{field.replace('_', '-')}" for field in fields}, name
        told |= fields
    untold = {each for each, field in COMMANDS[command].model_fields.items() if POSITIONAL not in field.metadata} - told
    # Subcommands take most flags of others, which their sections say in words.
    others = ServerSettings.model_fields.keys() | AgentSettings.model_fields.keys()
    others |= RunSettings.model_fields.keys() if command == "ams-eval sweep" else set()
    assert untold <= (others if " " in command else set())


def test_the_presets_are_as_the_table_says() -> None:
    rows = [row for row in table_rows(section("`ams-server`")) if len(row) == 4]
    fields = ServerSettings.model_fields
    differing = {key for preset in PRESETS.values() for key, value in preset.items() if value != fields[key].default}
    assert {row[0].strip("`") for row in rows} == differing
    for cell, default, *presets in rows:
        key = cell.strip("`")
        assert default == str(fields[key].default)
        assert presets == [str(PRESETS[name].get(key, "")) for name in ("paper", "authors_code")]


def test_the_schemes_are_as_the_table_says() -> None:
    rows = table_rows(section("Would it help my camera?"))
    assert rows == [[f"`{name}`", what] for name, (what, _, _) in SCHEMES.items()]


def test_students_teachers_and_class_sets_are_those_there_are(tmp_path: Path) -> None:
    students = {name for row in table_rows(section("Students")) for name in re.findall(r"`([^`]+)`", row[0])}
    assert students == STUDENTS.keys()
    assert set(re.findall(r"`([a-z]\w*\d)`", section("Class sets").split("```")[0])) == BUILT_IN.keys()
    for variant in re.findall(r"`(?:efficientvit)?-(\w\d)`", section("Teachers")):
        efficientvit_seg(variant, 2)
    (tmp_path / "quay.toml").write_text(blocks("toml")[0], encoding="utf-8")
    assert load_class_set(str(tmp_path / "quay.toml")).names == ("water", "boat")


def written_events(room: str) -> dict[str, set[str]]:
    """Return the events that the code in a folder writes, with the names of their values."""
    events: dict[str, set[str]] = {}
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "self._events.write":
                (name,) = (each.value for each in node.args if isinstance(each, ast.Constant))
                fields = {each.arg for each in node.keywords if each.arg}
                events[str(name)] = fields | (set(Way._fields) if len(fields) < len(node.keywords) else set())
    return events


def test_the_table_of_events_is_that_of_the_code() -> None:
    told: dict[str, dict[str, set[str]]] = {"edge": {}, "server": {}}
    room = ""
    for command, events, values in table_rows(section("What programs can read")):
        room = command.strip("`").removeprefix("ams-") or room
        told[room] |= {name: set(re.findall(r"`(\w+)`", values)) for name in re.findall(r"`(\w+)`", events)}
    assert told == {room: written_events(room) for room in told}


def test_the_protocol_page_names_every_update_codec() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^### `([\w-]+)`$", page, re.MULTILINE)) == CODECS.keys()


# --- the tree


def tree_entries() -> Iterator[tuple[str, str]]:
    """Yield path and description of each line of the tree; folders end with a slash."""
    (tree,) = (block for block in blocks("text") if block.startswith("protos/"))
    folders: list[str] = []
    for line in tree.splitlines():
        match = re.fullmatch(r"((?:  )*)(\S+)(?: {2,}(\S.*))?", line)
        assert match, line
        depth = len(match[1]) // 2
        assert depth <= len(folders), line
        path = "".join(folders[:depth]) + match[2]
        if match[2].endswith("/"):
            folders[depth:] = [match[2]]
        yield path, match[3] or ""


def source_files() -> set[str]:
    found = (path for room in ROOMS for path in (ROOT / room).rglob("*") if path.suffix in (".py", ".proto"))
    return {str(path.relative_to(ROOT)) for path in found if path.name != "__init__.py"}


def test_the_tree_shows_every_source_file_and_nothing_else() -> None:
    entries = [path for path, _ in tree_entries()]
    assert len(entries) == len(set(entries))
    leaves = [path for path in entries if not any(other != path and other.startswith(path) for other in entries)]
    whole_folders = tuple(path for path in leaves if path.endswith("/"))
    assert set(whole_folders) == {"common/ams_common/proto/", "evaluation/ams_eval/demo_models/"}
    assert all((ROOT / path).is_dir() for path in entries if path.endswith("/"))
    listed = {path for path in entries if not path.endswith("/")}
    existing = {path for path in source_files() if not path.startswith(whole_folders)}
    assert existing - listed == set(), "files that the tree lacks"
    assert listed - existing == set(), "files that are not there"


def test_each_line_of_the_tree_says_what_the_file_holds() -> None:
    silent = [path for path, description in tree_entries() if not description and path.strip("/") not in ROOMS]
    assert silent == []


# --- links, wording, versions


def test_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in re.findall(r"^#+ (.+)$", README, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.removeprefix("#") in headings if target.startswith("#") else (ROOT / target).is_file(), target


def test_make_targets_in_the_text_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    assert set(re.findall(r"`make (\w+)", README)) | set(re.findall(r"^make (\w+)", README, re.MULTILINE)) <= targets
    assert all(f"$({name})" in makefile for name in ("VIDEO", "TEACHER", "DEMO_ARGS"))


def test_versions_agree() -> None:
    (pinned,) = re.findall(r"^torch==(\S+)$", (ROOT / "scripts" / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert f"torch=={pinned}" in README
    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r"^## (\S+)", CHANGELOG, re.MULTILINE)[0] == version


# --- the Python example


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = (block for block in blocks("python") if "Agent(" in block)
    assert len(example.strip().splitlines()) <= 10
    for name in AgentSettings.model_fields:
        monkeypatch.delenv(f"AMS_{name.upper()}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AMS_DEVICE_ID", "reader")
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "drive.mp4", tenths(5))
    folder = tmp_path / ".local" / "state" / "ams-edge" / "reader"
    ModelStore(folder, StoreConfig(), SystemClock()).offer(tiny_model())
    assert "10.0.0.5:50051" in example
    nobody_listens = example.replace("10.0.0.5:50051", "127.0.0.1:1")
    exec(compile(nobody_listens, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(re.fullmatch(r" +\d\.\d\d s: \d+% of 64x48 is road", line) for line in lines)
