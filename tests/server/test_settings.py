import inspect
from pathlib import Path

import pytest

from ams_common.errors import ConfigurationError
from ams_common.settings import PartConfig, load_settings
from ams_edge.settings import AgentSettings
from ams_server.presets import PRESETS
from ams_server.settings import ServerSettings


def load(*arguments: str) -> ServerSettings:
    return load_settings(ServerSettings, arguments)


def parts(settings: type[ServerSettings] | type[AgentSettings]) -> list[type[PartConfig]]:
    return [base for base in settings.__bases__ if issubclass(base, PartConfig)]


@pytest.mark.parametrize("settings", [ServerSettings, AgentSettings])
def test_each_flag_belongs_to_one_part_and_is_explained(settings: type[ServerSettings] | type[AgentSettings]) -> None:
    names = [name for part in parts(settings) for name in part.model_fields]
    assert len(set(names)) == len(names)
    assert set(names) < settings.model_fields.keys()
    for name, field in settings.model_fields.items():
        assert field.description, f"{name} has no sentence"
        assert field.description.rstrip().endswith((".", ")")), name


def test_the_server_starts_with_its_defaults() -> None:
    settings = load()
    assert (settings.class_set, settings.classes, settings.device) == ("cityscapes19", [], "auto")
    assert (settings.update_interval_s, settings.horizon_s, settings.fraction) == (10, 240, 0.05)


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"default"}))
def test_every_constant_of_a_preset_reaches_the_settings(preset: str) -> None:
    settings = load("--preset", preset)
    for name, value in PRESETS[preset].items():
        assert getattr(settings, name) == value, name


def test_flags_win_over_the_environment_over_the_file_over_the_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "server.toml"
    path.write_text('preset = "authors_code"\nsteps = 7\nbatch_size = 3\nclasses = ["road", "sky"]\n')
    assert (load("--config", str(path)).steps, load("--config", str(path)).fraction) == (7, 0.1)
    monkeypatch.setenv("AMS_STEPS", "8")
    monkeypatch.setenv("AMS_CONFIG", str(path))
    assert load().steps == 8
    settings = load("--steps", "9")
    assert (settings.steps, settings.batch_size, settings.horizon_s) == (9, 3, 250)
    assert settings.classes == ["road", "sky"]


def test_classes_are_a_list_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load("--classes", "road,sky").classes == load("--classes", "road", "--classes", "sky").classes == ["road", "sky"]
    for text in ("road,sky", '["road", "sky"]'):
        monkeypatch.setenv("AMS_CLASSES", text)
        assert load().classes == ["road", "sky"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "fast"], "--preset=fast: input should be 'default', 'paper' or 'authors_code'"),
        (["--min-sampling-hz", "2"], "min_sampling_hz=2.0 is above max_sampling_hz=1.0"),
        (["--selection", "best"], "--selection=best: input should be 'gradient_guided', "),
        (["--classes", "road,sky,road"], "--classes=road,sky,road: names the class 'road' twice"),
        (["--listen", "8000"], "--listen=8000: must be host:port with a port of 0 to 65535"),
        (["--student-width", "10"], "--student-width=10: input should be greater than or equal to 32"),
        (["--steps"], "argument --steps: expected one argument"),
    ],
)
def test_a_mistake_is_named_in_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(*arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("admin", "collides"),
    [
        ("[::]:50051", True),
        ("127.0.0.1:50051", True),
        (":50051", True),
        ("127.0.0.1:50052", False),
    ],
)
def test_people_cannot_ask_where_devices_connect(admin: str, collides: bool) -> None:
    if not collides:
        assert load("--admin-listen", admin).admin_listen == admin
        return
    with pytest.raises(ConfigurationError, match=r"admin_listen=.*:50051 is where devices connect, listen=\[::\]:50051"):
        load("--admin-listen", admin)


@pytest.mark.parametrize(("listen", "admin"), [("10.0.0.1:7", "127.0.0.1:7"), ("[::]:0", "[::]:0")])
def test_two_addresses_of_one_machine_and_free_ports_do_not_collide(listen: str, admin: str) -> None:
    assert load("--listen", listen, "--admin-listen", admin).listen == listen


def test_parts_are_configurations_of_their_own() -> None:
    for part in (*parts(ServerSettings), *parts(AgentSettings)):
        assert inspect.getdoc(part)
