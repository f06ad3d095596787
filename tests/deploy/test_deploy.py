"""The files of deploy/ against the commands and the repository as they are."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ams_common.settings import CommandSettings, load_settings
from ams_edge.settings import AgentSettings
from ams_server.settings import ServerSettings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SIDES: dict[str, type[CommandSettings]] = {"server": ServerSettings, "edge": AgentSettings}
BASE = "python:3.11-slim"
INSTALLED = "/opt/ams/bin"
SETTING_BEHIND_HASH = re.compile(r"^#(?=\w+ = )", re.MULTILINE)

each_side = pytest.mark.parametrize("side", SIDES)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings_class in SIDES.values():
        for name in settings_class.model_fields:
            monkeypatch.delenv(f"AMS_{name.upper()}", raising=False)


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return content


def unit(side: str) -> str:
    return (DEPLOY / f"ams-{side}.service").read_text(encoding="utf-8")


def dockerfile(side: str) -> str:
    return (DEPLOY / f"{side}.Dockerfile").read_text(encoding="utf-8")


def docker_list(side: str, instruction: str) -> list[str]:
    match = re.search(rf"^{instruction} (\[.*\])$", dockerfile(side), re.MULTILINE)
    assert match, f"{side}.Dockerfile has no {instruction}"
    words: list[str] = json.loads(match.group(1))
    return words


def settings_of(side: str, arguments: list[str]) -> CommandSettings:
    """Parse arguments as the command would on a machine that has our configuration in /etc/ams."""
    return load_settings(SIDES[side], [word.replace("/etc/ams/", f"{DEPLOY}/") for word in arguments])


# --- TOML


@each_side
def test_the_configuration_loads_as_it_is(side: str) -> None:
    settings_of(side, ["--config", f"/etc/ams/{side}.toml"])


@each_side
def test_the_configuration_loads_with_every_setting_switched_on(side: str, tmp_path: Path) -> None:
    everything = SETTING_BEHIND_HASH.sub("", (DEPLOY / f"{side}.toml").read_text(encoding="utf-8"))
    (tmp_path / "all.toml").write_text(everything, encoding="utf-8")
    settings = settings_of(side, ["--config", str(tmp_path / "all.toml")])
    assert settings.model_fields_set == SIDES[side].model_fields.keys()


@each_side
def test_settings_behind_a_hash_show_the_default_where_there_is_one(side: str, tmp_path: Path) -> None:
    text = (DEPLOY / f"{side}.toml").read_text(encoding="utf-8")
    behind_hash = re.findall(r"^#(\w+) = ", text, re.MULTILINE)
    (tmp_path / "all.toml").write_text(SETTING_BEHIND_HASH.sub("", text), encoding="utf-8")
    shown = settings_of(side, ["--config", str(tmp_path / "all.toml")])
    fields = SIDES[side].model_fields
    plain = {name: fields[name].default for name in behind_hash if fields[name].default_factory is None}
    assert {name: getattr(shown, name) for name, default in plain.items() if default not in (None, "")} == {
        name: default for name, default in plain.items() if default not in (None, "")
    }


@each_side
def test_the_configuration_says_how_it_is_used(side: str) -> None:
    first = (DEPLOY / f"{side}.toml").read_text(encoding="utf-8").splitlines()[0]
    assert f"`ams-{side} --config /etc/ams/{side}.toml`" in first


# --- Dockerfiles


@each_side
def test_an_image_runs_the_command_with_its_own_configuration(side: str) -> None:
    assert docker_list(side, "ENTRYPOINT") == [f"ams-{side}"]
    settings_of(side, docker_list(side, "CMD"))
    assert f"COPY deploy/{side}.toml /etc/ams/{side}.toml" in dockerfile(side)


@each_side
def test_an_image_is_small_and_does_not_run_as_root(side: str) -> None:
    text = dockerfile(side)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {BASE}
    assert f'-c scripts/constraints.txt ".[{side}]"' in text
    assert text.rindex("\nUSER ams\n") < text.rindex("ENTRYPOINT")
    assert not re.search(r"--(index|extra-index|find-links)|https?:", text)


@each_side
def test_an_image_is_built_from_files_that_exist_and_reach_the_builder(side: str) -> None:
    lines = (DEPLOY / f"{side}.Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line.removeprefix("!") for line in lines if line.startswith("!")]
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile(side), re.MULTILINE)
    copied = [path for paths in copies for path in paths.split()]
    assert "pyproject.toml" in copied
    for path in copied:
        assert (ROOT / path).exists(), path
        assert any(path == entry or path.startswith(f"{entry}/") for entry in allowed), f"{path} is ignored"
    assert all((ROOT / entry).exists() for entry in allowed)


def test_images_hold_every_package_of_the_distribution() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    rooms = re.findall(r'"(\w+)/ams_\w+"', pyproject)
    assert rooms
    for side in SIDES:
        assert all(f"COPY {room} {room}\n" in dockerfile(side) for room in rooms)


@each_side
def test_grpc_is_silent_unless_the_user_says_otherwise(side: str) -> None:
    last_stage = dockerfile(side).rpartition("\nFROM ")[2]
    assert "\nENV GRPC_VERBOSITY=none\n" in last_stage
    assert "\nEnvironment=GRPC_VERBOSITY=none\n" in unit(side)
    assert "GRPC_VERBOSITY" not in compose()["services"][side].get("environment", {})


# --- compose


@each_side
def test_the_compose_file_runs_the_commands_as_they_are(side: str) -> None:
    service = compose()["services"][side]
    settings_of(side, service["command"])
    for name in service.get("environment", {}):
        assert name.removeprefix("AMS_").lower() in SIDES[side].model_fields


@each_side
def test_the_compose_file_refers_to_files_that_exist(side: str) -> None:
    service = compose()["services"][side]
    context = (DEPLOY / service["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / service["build"]["dockerfile"]).is_file()
    files = [volume.split(":")[0] for volume in service["volumes"] if volume.endswith(".toml:ro")]
    assert files
    assert all((DEPLOY / file).is_file() for file in files)


def test_the_compose_file_names_its_volumes_and_gives_the_server_a_gpu_and_the_edge_a_camera() -> None:
    content = compose()
    services = content["services"]
    mounted = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    assert {name for name in mounted if re.fullmatch(r"[\w-]+", name)} == content["volumes"].keys()
    (gpu,) = services["server"]["deploy"]["resources"]["reservations"]["devices"]
    assert gpu["capabilities"] == ["gpu"]
    camera = load_settings(AgentSettings, services["edge"]["command"][2:]).source
    assert f"{camera}:{camera}" in services["edge"]["devices"]


def test_the_edge_of_the_compose_file_finds_its_server() -> None:
    services = compose()["services"]
    server = load_settings(ServerSettings, services["server"]["command"][2:])
    port = server.listen.rpartition(":")[2]
    assert services["edge"]["environment"]["AMS_SERVER"] == f"${{SERVER:-server:{port}}}"
    assert all(published.endswith(f":{port}:{port}") for published in services["server"]["ports"])
    assert f"EXPOSE {port}\n" in dockerfile("server")


@each_side
def test_what_must_survive_lies_in_a_volume(side: str) -> None:
    volumes = {volume.rpartition(":")[2] for volume in compose()["services"][side]["volumes"]}
    assert f"/var/lib/ams-{side}" in volumes
    assert f"--home-dir /var/lib/ams-{side}" in dockerfile(side)


def test_the_server_keeps_sessions_where_image_and_unit_let_it_write() -> None:
    settings = load_settings(ServerSettings, ["--config", str(DEPLOY / "server.toml")])
    assert settings.state_folder == Path("/var/lib/ams-server/sessions")
    assert "StateDirectory=ams-server\n" in unit("server")


def test_the_edge_keeps_its_model_where_image_and_unit_let_it_write() -> None:
    settings = load_settings(AgentSettings, ["--config", str(DEPLOY / "edge.toml")])
    assert settings.state_folder == Path("/var/lib/ams-edge")
    assert "StateDirectory=ams-edge\n" in unit("edge")


# --- systemd


@each_side
def test_a_unit_starts_the_command_as_it_is(side: str) -> None:
    command, *arguments = re.findall(r"^ExecStart=(.+)$", unit(side), re.MULTILINE)[0].split()
    assert command == f"{INSTALLED}/ams-{side}"
    settings_of(side, arguments)


@each_side
def test_a_unit_is_hardened_and_starts_again_after_a_failure(side: str) -> None:
    lines = unit(side).splitlines()
    for wanted in ("Restart=on-failure", "DynamicUser=yes", f"StateDirectory=ams-{side}", "ProtectSystem=strict"):
        assert wanted in lines


@each_side
def test_systemd_accepts_a_unit(side: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / f"ams-{side}.service"
    # The program need not be installed where this test runs.
    copy.write_text(unit(side).replace(f"{INSTALLED}/ams-{side}", str(shutil.which("true"))), encoding="utf-8")
    result = subprocess.run([analyze, "verify", str(copy)], capture_output=True, text=True, check=False, timeout=60)
    complaints = [line for line in result.stderr.splitlines() if copy.name in line]
    assert (result.returncode, complaints) == (0, []), result.stderr
