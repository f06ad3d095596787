"""The schemes by name, their variants, and schemes from a user's own file."""

import hashlib
import importlib.util
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ams_common.errors import AmsError, ConfigurationError
from ams_eval.replay.device import Shown
from ams_eval.replay.latency import NetworkConfig
from ams_eval.schemes import adaptation, no_customisation, one_time, oracle, tracking
from ams_eval.schemes.base import Scheme, Stage, budget_of
from ams_server.device_budget import require_workable
from ams_server.learners.factory import shortest_update_interval_s
from ams_server.presets import PRESETS
from ams_server.settings import AdaptationConfig

PRESET_KEY = "preset"


@dataclass(frozen=True, kw_only=True, eq=False)
class NamedScheme:
    """A scheme as a user asked for it."""

    name: str
    """As it was asked for, its changes included."""
    label: Scheme
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Settings that make it up; `preset` among them stands for all of a preset's."""

    file: Path | None = None
    """The user's own file that it comes from."""

    @property
    def shares_server(self) -> bool:
        """Whether several devices can run it at one server."""
        return self.label is adaptation.label

    def require_served(self, config: AdaptationConfig, network: NetworkConfig) -> None:
        """See that a server with the settings `config` would serve a device with the budgets of `network`, if it has one.

        Raises:
            ConfigurationError: it would refuse them; a replay would show a device that learns nothing.
        """
        if not self.shares_server:
            return
        try:
            require_workable(budget_of(network), shortest_update_interval_s(config))
        except ConfigurationError as error:
            raise ConfigurationError(f"scheme {self.name!r}: {error}") from error

    def run(self, stage: Stage) -> Iterator[Shown]:
        """Yield what the scheme shows on `stage`.

        Raises:
            ConfigurationError: the user's own file fails, with the line in which it did.
            AmsError: the recording, the teacher or a setting fails.
        """
        if self.file is None:
            yield from self.label(stage)
            return
        try:
            yield from self.label(stage)
        except AmsError:
            raise
        except Exception as error:
            raise _failure(self.file, error) from error

    def identity(self) -> dict[str, str]:
        """Return what tells apart two versions of a user's own scheme."""
        return (
            {} if self.file is None else {"scheme_digest": hashlib.blake2b(self.file.read_bytes(), digest_size=16).hexdigest()}
        )

    def config(self, given: Mapping[str, Any], seed: int) -> AdaptationConfig:
        """Return the settings of the scheme with `given` ones, which give way to its own.

        Raises:
            ConfigurationError: a value cannot be used.
        """
        preset = PRESETS[self.changes.get(PRESET_KEY, "default")]
        own = {key: value for key, value in self.changes.items() if key != PRESET_KEY}
        try:
            return AdaptationConfig(**{**preset, **given, **own, "seed": seed})
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise ConfigurationError(f"scheme {self.name!r}: {key}={first['input']!r}: {first['msg'].lower()}") from error


_AMS = {"scheme": "ams"}
_PAPER = {**_AMS, PRESET_KEY: "paper"}
_JIT = {"scheme": "jit"}
_FULL = {"selection": "full", "fraction": 1.0}

SCHEMES: dict[str, tuple[str, Scheme, Mapping[str, Any]]] = {
    "none": ("no customisation: the pretrained student", no_customisation.label, {}),
    "one-time": ("the whole student tuned on the first minute and sent once", one_time.label, one_time.SETTINGS),
    "tracking": ("the teacher's labels of a picture a second, carried to every frame by optical flow", tracking.label, {}),
    "jit": ("just-in-time distillation, 5 % of the parameters in each update", adaptation.label, _JIT),
    "jit-full": ("just-in-time distillation, every parameter in each update", adaptation.label, {**_JIT, **_FULL}),
    "ams": ("adaptive model streaming with this product's defaults", adaptation.label, _AMS),
    "paper": ("adaptive model streaming as published", adaptation.label, _PAPER),
    "authors_code": (
        "adaptive model streaming as its authors' code does it",
        adaptation.label,
        {**_AMS, PRESET_KEY: "authors_code"},
    ),
    "full": ("as published, but with every parameter in each update", adaptation.label, {**_PAPER, **_FULL}),
    "oracle": ("the student tuned beforehand on the whole recording, its future included", oracle.label, oracle.SETTINGS),
}
"""Name: (what it is, the scheme, settings that make it up)."""


def parse_scheme(text: str) -> NamedScheme:
    """Return the scheme that `text` names: NAME or FILE.py, then any number of :setting=value.

    Raises:
        ConfigurationError: there is no such scheme or setting.
    """
    name, *changes = text.split(":")
    own = dict(map(_change, changes))
    if name.endswith(".py"):
        if Path(name).stem in SCHEMES:
            raise ConfigurationError(f"scheme file {name!r} has the name of another scheme, {Path(name).stem!r}: rename it")
        return NamedScheme(name=text.replace(name, Path(name).stem), label=_from_file(Path(name)), changes=own, file=Path(name))
    if name not in SCHEMES:
        raise ConfigurationError(f"unknown scheme {name!r}: use {', '.join(SCHEMES)}, or a file of your own like mine.py")
    _, label, made_up = SCHEMES[name]
    return NamedScheme(name=text, label=label, changes={**made_up, **own})


def _change(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    key = key.replace("-", "_")
    if not equals or key not in AdaptationConfig.model_fields:
        raise ConfigurationError(f"unknown setting {text!r} of a scheme: write NAME:setting=value with a setting of ams-server")
    return key, value


def _from_file(path: Path) -> Scheme:
    """Return the function `label` of a Python file."""
    spec = importlib.util.spec_from_file_location(f"user_scheme_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigurationError(f"scheme file {str(path)!r} does not exist")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _failure(path, error) from error
    label: Scheme | None = getattr(module, "label", None)
    if not callable(label):
        raise ConfigurationError(f"scheme file {str(path)!r} has no function label(stage)")
    return label


def _failure(path: Path, error: Exception) -> ConfigurationError:
    lines = [each.lineno for each in traceback.extract_tb(error.__traceback__) if Path(each.filename).name == path.name]
    place = f" in line {lines[-1]}" if lines else ""
    return ConfigurationError(f"scheme file {str(path)!r} fails{place}: {type(error).__name__}: {error}")
