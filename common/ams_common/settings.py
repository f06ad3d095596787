"""Settings of a command: flags win over `AMS_` environment variables, these over a TOML file, this over the preset.

Each part of the product has one frozen configuration class (a `PartConfig`); a command's settings class inherits the parts
that it needs, so that every key, default and help text is written once and `--help`, the TOML file and the environment agree.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from ams_common.command_line import command_line, flag
from ams_common.errors import AmsError, ConfigurationError

SettingsT = TypeVar("SettingsT", bound="CommandSettings")
PRESET_FIELD = "preset"
ENVIRONMENT_PREFIX = "AMS_"
EXTRAS: Mapping[str, str] = {"ams-edge": "edge", "ams-server": "server", "ams-eval": "eval"}
"""The extra that installs what a command needs."""
_NO_NUMBER = ("nan", "+nan", "-nan")
_UNKNOWN_FLAG = re.compile("unrecognized arguments: (--[^ =]+)")


class PartConfig(BaseModel):
    """Base of one part's configuration: immutable, no unknown keys, the sentence under a field is its help text."""

    # The type that settings classes declare, so that one may inherit from both; pydantic's own base narrows it likewise.
    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(  # pyright: ignore[reportIncompatibleVariableOverride]
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )


class CommandSettings(BaseSettings):
    """Base of a command's settings; a subclass names the command in `model_config` as `cli_prog_name`."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        env_prefix=ENVIRONMENT_PREFIX,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_exit_on_error=False,
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named sets of defaults; a subclass that has some also has a field `preset`."""

    config: Path | None = None
    """TOML file with any of these settings, keys as in the long flags with underscores."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources, strongest first; the command line precedes all of them."""
        return init_settings, _Environment(settings_cls), _ConfigFile(settings_cls), _Preset(settings_cls, cls.presets)


class _Environment(EnvSettingsSource):
    """Environment variables, in which a list is written as on the command line or as JSON."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Return the parts of a list.

        Raises:
            ConfigurationError: what looks like JSON is none.
        """
        if not value.lstrip().startswith("["):
            return [part.strip() for part in value.split(",")] if value.strip() else []
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError as error:
            name = f"{ENVIRONMENT_PREFIX}{field_name.upper()}"
            raise ConfigurationError(f"{name}={value}: is not valid JSON; a list is also written one,two") from error


class _LazySource(PydanticBaseSettingsSource):
    """A source that needs to know what the stronger ones said."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return no value: such a source gives all of its values at once."""
        return None, field_name, False


class _ConfigFile(_LazySource):
    def __call__(self) -> dict[str, Any]:
        path = self.current_state.get("config")
        return {} if path is None else _file_values(self.settings_cls, Path(path))


def _file_values(settings_class: type[BaseSettings], path: Path) -> dict[str, Any]:
    """Return what the settings file says.

    Raises:
        ConfigurationError: there is no such file, or it cannot be read.
    """
    try:
        if not path.is_file():
            raise ConfigurationError(f"settings file {str(path)!r} does not exist")
        return TomlConfigSettingsSource(settings_class, path)()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot read settings file {str(path)!r}: {error}") from error


class _Preset(_LazySource):
    def __init__(self, settings_cls: type[BaseSettings], presets: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(settings_cls)
        self._presets = presets

    def __call__(self) -> dict[str, Any]:
        name = self.current_state.get(PRESET_FIELD)
        return dict(self._presets.get(name, {})) if isinstance(name, str) else {}


def load_settings(settings_class: type[SettingsT], arguments: Sequence[str]) -> SettingsT:
    """Read the settings of a command from command line, environment and file.

    Raises:
        ConfigurationError: a flag or key is unknown or a value cannot be used; the message names it.
        SystemExit: `--help` was asked for.
    """
    given: Mapping[str, Any] = {}
    try:
        source = command_line(settings_class, arguments)
        given = source()
        return settings_class(_cli_settings_source=source)  # type: ignore[call-arg]
    except ValidationError as error:
        known = tuple(settings_class.model_fields)
        raise ConfigurationError("; ".join(_describe(each, given, known) for each in error.errors())) from error
    except (SettingsError, ValueError) as error:
        reason = str(error).removeprefix("error parsing CLI: ")
        raise ConfigurationError(f"{reason} ({_nearest(reason, settings_class)}--help lists all settings)") from error


def overriding(settings: CommandSettings, arguments: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the flags and environment variables, those of `names`, in place of which the settings file has another value.

    Args:
        settings: what `load_settings` has made of `arguments`.
        arguments: the command line.
        names: settings to look at.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    if settings.config is None:
        return []
    in_file = _file_values(type(settings), settings.config)
    given = command_line(type(settings), arguments)()
    return [_place(name, given) for name in names if name in in_file and in_file[name] != getattr(settings, name)]


def _nearest(reason: str, settings_class: type[BaseSettings]) -> str:
    """Return the question whether the flag was meant that is nearest to one that `reason` says is unknown."""
    unknown = _UNKNOWN_FLAG.match(reason)
    similar = get_close_matches(unknown[1], map(flag, settings_class.model_fields), n=1) if unknown else []
    return f"did you mean {similar[0]}? " if similar else ""


def _describe(error: Any, given: Mapping[str, Any], known: Sequence[str]) -> str:
    """Say what is wrong with which setting, and where it was `given`: on the command line or elsewhere."""
    reason = _reason(error)
    if not error["loc"]:
        # Settings that do not go together have no key of their own; the reason names them.
        return reason
    key = str(error["loc"][0])
    if error["type"] == "missing":
        return f"{flag(key)} is required"
    if error["type"] == "extra_forbidden":
        similar = get_close_matches(key, known, n=1)
        return f"unknown setting {_place(key, given)}" + (f": did you mean {similar[0]}?" if similar else "")
    value = error["input"]
    shown = ",".join(map(str, value)) if isinstance(value, list) else value
    return f"{_place(key, given)}={shown}: {reason}"


def _reason(error: Any) -> str:
    """Say what is wrong with a value."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    # Such a one fails every limit, which says nothing.
    if error["type"].startswith(("greater_than", "less_than")) and str(error["input"]).strip().lower() in _NO_NUMBER:
        return "must be a number"
    said: str = error["msg"][:1].lower() + error["msg"][1:]
    # An empty choice stands for the flag that is left out.
    return said.replace(" '',", "") if error["type"] == "literal_error" else said


def _place(key: str, given: Mapping[str, Any]) -> str:
    """Return the name of a setting where its value comes from."""
    if key in given:
        return flag(key)
    variables = {name.lower(): name for name in os.environ}
    variable = f"{ENVIRONMENT_PREFIX}{key}".lower()
    if variable in variables:
        return variables[variable]
    config = given.get("config") or os.environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    return f"{key} in {config}" if config else flag(key)


def home_expanded(path: Path) -> Path:
    """Return `path` with ~ and ~user replaced by that person's folder.

    Raises:
        ConfigurationError: nobody has that name, or no folder.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ConfigurationError(f"{str(path)!r} begins with the home of somebody who is not known here") from error


def run_command(main: Callable[[Sequence[str]], int]) -> int:
    """Run a command's `main` on the process's arguments; report an AmsError as one line on stderr with exit status 2.

    So is a package that is missing: every command is installed everywhere, what it needs is not.
    """
    command = Path(sys.argv[0]).name
    try:
        return main(sys.argv[1:])
    except AmsError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(command)
        if extra is None or (error.name or "").startswith("ams_"):
            raise
        print(f"{command}: {error.name} is not installed: pip install '.[{extra}]' has all it needs", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def configure_logging(verbose: bool) -> None:
    """Log to stderr, one line an event: warnings and progress, with `verbose` details too."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
        stream=sys.stderr,
    )
    for noisy in ("grpc", "libav", "onnxscript", "torch", "onnx_ir", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
