"""The flags of a command, made of its settings class: a heading for each part, units as placeholders, plain defaults."""

import inspect
import shutil
from argparse import SUPPRESS, ArgumentParser, HelpFormatter
from collections.abc import Callable, Container, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, CliSettingsSource

LONGEST_LINE = 110
"""Columns of the help at most: longer lines are hard to read on a wide terminal."""
LONGEST_CHOICES = 40
"""Characters of the choices that stand beside a flag; more of them stand in its text."""
HELP_COLUMN = 30
_PLACEHOLDERS = {
    "s": "SECONDS",
    "hz": "HZ",
    "kbps": "KBPS",
    "width": "PIXELS",
    "height": "PIXELS",
    "listen": "HOST:PORT",
    "admin": "HOST:PORT",
    "budget": "DEVICE",
    "server": "HOST:PORT",
}
"""What stands for a value, by the last word of the setting's name."""


def command_line(settings_class: type[BaseSettings], arguments: Sequence[str]) -> CliSettingsSource[Any]:
    """Return the settings that `arguments` give.

    Raises:
        SettingsError: a flag is unknown or its value is missing.
        SystemExit: `--help` was asked for and is printed.
    """
    return CliSettingsSource(
        settings_class,
        cli_parse_args=list(arguments),
        add_argument_method=_adder(settings_class),
        formatter_class=partial(
            HelpFormatter,
            max_help_position=HELP_COLUMN,
            width=min(LONGEST_LINE, shutil.get_terminal_size().columns) - 2,
        ),
    )


def flag(name: str) -> str:
    """Return the flag of the setting `name`."""
    return f"--{name.replace('_', '-')}"


def _adder(settings_class: type[BaseSettings]) -> Callable[..., None]:
    """Return what takes the place of ArgumentParser.add_argument: it puts each flag under the heading of its part."""
    parts = _parts(settings_class)
    groups: dict[type, Any] = {}
    positional: dict[str, str] = {}

    def add(parser: ArgumentParser, *flags: str, **options: Any) -> None:
        """Add one flag to `parser`, with the help and the placeholder of its setting."""
        if not flags[0].startswith("-"):
            positional[flags[0]] = options["metavar"] + (" ..." if "nargs" in options else "")
        required = _required(settings_class, without=positional)
        parser.usage = " ".join(["%(prog)s", *positional.values(), *required, "[options]"])
        if not groups:
            groups.update((part, parser.add_argument_group(_title(part))) for part in parts)
        name = options.get("dest")
        if name is not None:
            field = settings_class.model_fields[name]
            if options["help"] != SUPPRESS:
                options["help"] = _help(field).replace("%", "%%")
            if "metavar" in options:
                options["metavar"] = _placeholder(name, field)
        home = next((groups[part] for part in parts if issubclass(part, BaseModel) and name in part.model_fields), parser)
        home.add_argument(*flags, **options)

    return add


def _parts(settings_class: type) -> list[type]:
    """Return the classes that bring flags, without the commands' own; those of which one only consists take its place."""
    parts: list[type] = []
    for base in settings_class.__bases__:
        if base not in (BaseModel, BaseSettings):
            consists = issubclass(base, BaseSettings) or not inspect.get_annotations(base)
            parts += _parts(base) if consists else [base]
    return parts


def _required(settings_class: type[BaseSettings], without: Container[str]) -> list[str]:
    fields = settings_class.model_fields.items()
    required = [(name, field) for name, field in fields if field.is_required() and name not in without]
    return [f"{flag(name)} {_placeholder(name, field)}" for name, field in required]


def _title(part: type) -> str:
    return (part.__doc__ or part.__name__).split(".")[0].replace("\n", " ")


def _help(field: FieldInfo) -> str:
    described = [field.description or ""]
    choices = _choices(field)
    if len(choices) > LONGEST_CHOICES:
        described.append(f"One of {choices.replace(',', ', ')}.")
    default = "required" if field.is_required() else _default(field.default)
    return " ".join(described + ([f"({default})"] if default else []))


def _default(value: object) -> str:
    match value:
        case bool():
            return f"default: {'on' if value else 'off'}"
        case float():
            return f"default: {value:g}"
        case int() | str() | Path() if str(value):
            return f"default: {value}"
        case list() if value:
            return f"default: {','.join(map(str, value))}"
        case _:
            # An empty one, or one that is found out; the sentence says what then holds.
            return ""


def _choices(field: FieldInfo) -> str:
    return ",".join(filter(None, get_args(field.annotation))) if get_origin(field.annotation) is Literal else ""


def _placeholder(name: str, field: FieldInfo) -> str:
    choices = _choices(field)
    if choices and len(choices) <= LONGEST_CHOICES:
        return f"{{{choices}}}"
    types = {field.annotation, *get_args(field.annotation)}
    last_word = name.rpartition("_")[2]
    if get_origin(field.annotation) is list:
        return "N,..." if float in get_args(field.annotation) else "NAME,..."
    if Path in types:
        return "PATH"
    if last_word in _PLACEHOLDERS:
        return _PLACEHOLDERS[last_word]
    return "N" if int in types else last_word.upper()
