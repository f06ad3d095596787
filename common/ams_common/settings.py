"""Settings of a command: flags win over `AMS_` environment variables, these over a TOML file, this over the preset.

Each part of the product has one frozen configuration class (a `PartConfig`); a command's settings class inherits the parts
that it needs, so that every key, default and help text is written once and `--help`, the TOML file and the environment agree.
"""

import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from ams_common.errors import AmsError, ConfigurationError

SettingsT = TypeVar("SettingsT", bound="CommandSettings")
PRESET_FIELD = "preset"


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
        env_prefix="AMS_",
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
        return init_settings, env_settings, _ConfigFile(settings_cls), _Preset(settings_cls, cls.presets)


class _LazySource(PydanticBaseSettingsSource):
    """A source that needs to know what the stronger ones said."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False


class _ConfigFile(_LazySource):
    def __call__(self) -> dict[str, Any]:
        path = self.current_state.get("config")
        if path is None:
            return {}
        if not Path(path).is_file():
            raise ConfigurationError(f"settings file {str(path)!r} does not exist")
        try:
            return TomlConfigSettingsSource(self.settings_cls, Path(path))()
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
    try:
        return settings_class(_cli_parse_args=list(arguments))  # type: ignore[call-arg]
    except ValidationError as error:
        raise ConfigurationError("; ".join(map(_describe, error.errors()))) from error
    except (SettingsError, ValueError) as error:
        if found := re.search(r'field "(\w+)" from source "EnvSettingsSource"', str(error)):
            name = f"AMS_{found[1].upper()}"
            raise ConfigurationError(f'{name} must be JSON; a list is written {name}=\'["one", "two"]\'') from error
        reason = str(error).removeprefix("error parsing CLI: ")
        raise ConfigurationError(f"{reason} (--help lists all settings)") from error


def _describe(error: Any) -> str:
    key = ".".join(map(str, error["loc"]))
    flag = f"--{key.replace('_', '-')}"
    if error["type"] == "extra_forbidden":
        return f"unknown setting {key!r}"
    if error["type"] == "missing":
        return f"{flag} is required"
    reason = str(error["ctx"]["error"]) if error["type"] == "value_error" else error["msg"][:1].lower() + error["msg"][1:]
    # Settings that do not go together have no key of their own; the reason names them.
    return f"{flag}={error['input']}: {reason}" if key else reason


def run_command(main: Callable[[Sequence[str]], int]) -> int:
    """Run a command's `main` on the process's arguments; report an AmsError as one line on stderr with exit status 2."""
    try:
        return main(sys.argv[1:])
    except AmsError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def configure_logging(verbose: bool) -> None:
    """Log to stderr, one line an event: warnings and progress, with `verbose` details too."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    for noisy in ("grpc", "libav", "onnxscript", "torch", "onnx_ir", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
