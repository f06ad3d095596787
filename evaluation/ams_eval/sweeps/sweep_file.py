"""Sweep files: which schemes meet which settings, in TOML.

    videos = ["drive.mp4"]                  # unless they are given on the command line
    seeds = 3
    schemes = ["none", "paper"]
    steps = 10                              # any setting of `ams-eval run`

    [axes]                                  # every scheme meets every combination of these values
    fraction = [0.05, 0.1]
    selection = ["gradient_guided", "random"]

Instead of one cross product a file may have several `[[sweep]]` blocks, each with schemes, settings and `[sweep.axes]` of its
own; what stands above the blocks then holds for all of them.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

import tomllib
from pydantic import ValidationError

from ams_common.command_line import flag
from ams_common.errors import ConfigurationError, system_reason
from ams_eval.inputs.label_cache import LabelCacheConfig
from ams_eval.runner import ExperimentConfig, given_of
from ams_eval.schemes.registry import parse_scheme
from ams_server.settings import AdaptationConfig, ComputeConfig

MOST_POINTS = 10_000
MOST_SEEDS = 100
_SUFFIX = ".toml"
_HEAD, _PARTS = ("videos", "seeds"), ("schemes", "axes")
_SETTINGS = [name for name in ExperimentConfig.model_fields if name != "scheme"]
"""`scheme` is what `schemes` stand for."""
_NO_AXES = {*ComputeConfig.model_fields, *LabelCacheConfig.model_fields}
"""Settings that change no result."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """One cross product."""

    schemes: tuple[str, ...]
    settings: Mapping[str, Any]
    """What holds for this block alone."""
    axes: Mapping[str, tuple[Any, ...]]
    """Values by setting; each value meets each value of all others."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The content of a sweep file."""

    source: str
    """Where it comes from, for messages."""
    videos: tuple[Path, ...]
    seeds: int
    settings: Mapping[str, Any]
    """What holds for all blocks."""
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Point:
    """A scheme with settings: what is run on each recording with each seed."""

    scheme: str
    config: ExperimentConfig
    varied: Mapping[str, Any] = field(default_factory=dict)
    """What its block alone sets, and its value on each axis."""
    axes: tuple[str, ...] = ()
    """Those of `varied` that are axes."""

    @property
    def title(self) -> str:
        """What tells it apart, for people."""
        changes = ", ".join(f"{name}={value}" for name, value in self.varied.items())
        return f"{self.scheme} ({changes})" if changes else self.scheme


def ready_sweeps() -> dict[str, str]:
    """Return the text of each sweep file that comes with the product, by its name."""
    found = (each for each in files("ams_eval.sweeps").iterdir() if each.name.endswith(_SUFFIX))
    return {each.name.removesuffix(_SUFFIX): each.read_text(encoding="utf-8") for each in sorted(found, key=lambda x: x.name)}


def read_sweep(name: str) -> Sweep:
    """Read a file, or the sweep of that name that comes with the product.

    Raises:
        ConfigurationError: there is none, or it cannot be understood; the message names the file.
    """
    if name.endswith(_SUFFIX):
        try:
            return parse_sweep(Path(name).read_text(encoding="utf-8"), name)
        except (OSError, UnicodeDecodeError) as error:
            reason = system_reason(error) if isinstance(error, OSError) else "it is no text"
            raise ConfigurationError(f"cannot read sweep file {name!r}: {reason}") from error
    ready = ready_sweeps()
    if name not in ready:
        raise ConfigurationError(f"unknown sweep {name!r}: use {', '.join(ready)}, or a file like mine{_SUFFIX}")
    return parse_sweep(ready[name], name)


def parse_sweep(text: str, source: str) -> Sweep:
    """Return the sweep that a file's `text` describes; its values are not checked yet, see `points`.

    Raises:
        ConfigurationError: it is no TOML, or has unknown keys, empty axes, or values of the wrong kind.
    """
    try:
        document = tomllib.loads(text)
        return _sweep(document, source)
    except (tomllib.TOMLDecodeError, _UnfitError, RecursionError) as error:
        raise ConfigurationError(f"{source}: {error}") from error


class _UnfitError(ValueError):
    """What is wrong, without the name of the file."""


def _sweep(document: Mapping[str, Any], source: str) -> Sweep:
    blocks = document.get("sweep", [{}])
    if not isinstance(blocks, list) or not blocks or not all(isinstance(each, dict) for each in blocks):
        raise _UnfitError("sweep is no list of blocks: write [[sweep]]")
    common = {key: value for key, value in document.items() if key != "sweep"}
    seeds = common.get("seeds", 1)
    if type(seeds) is not int or not 1 <= seeds <= MOST_SEEDS:
        raise _UnfitError(f"seeds={seeds!r} is no number from 1 to {MOST_SEEDS}")
    settings = _settings(common, (*_HEAD, *_PARTS))
    return Sweep(
        source=source,
        videos=tuple(Path(each) for each in _texts("videos", common.get("videos", []))),
        seeds=seeds,
        settings=settings,
        blocks=tuple(_block(each, common, settings) for each in blocks),
    )


def _block(block: Mapping[str, Any], common: Mapping[str, Any], settings: Mapping[str, Any]) -> Block:
    schemes = _texts("schemes", block.get("schemes", common.get("schemes", [])))
    if not schemes:
        raise _UnfitError("no schemes: write, for example, schemes = ['none', 'ams']")
    own, axes = _settings(block, _PARTS), {**_axes(common.get("axes", {})), **_axes(block.get("axes", {}))}
    if twice := axes.keys() & (own.keys() | settings.keys()):
        raise _UnfitError(f"{min(twice)} is both a setting and an axis")
    return Block(schemes=schemes, settings=own, axes=axes)


def _settings(table: Mapping[str, Any], others: Sequence[str]) -> dict[str, Any]:
    found = {key: value for key, value in table.items() if key not in others}
    for key in found:
        _require_known(key, [*_SETTINGS, *others])
    return found


def _axes(table: object) -> dict[str, tuple[Any, ...]]:
    if not isinstance(table, dict):
        raise _UnfitError("axes is no table: write [axes]")
    for key, values in table.items():
        _require_known(key, _SETTINGS)
        if key == "seed":
            raise _UnfitError("seed is no axis: write seeds = 3 for three of them")
        if key in _NO_AXES:
            raise _UnfitError(f"{key} is no axis: it changes no result")
        if not isinstance(values, list) or not values:
            raise _UnfitError(f"axis {key} has no values: write {key} = [one, another]")
    return {key: tuple(values) for key, values in table.items()}


def _require_known(key: str, known: Sequence[str]) -> None:
    if key not in known:
        similar = get_close_matches(key, known, n=1)
        raise _UnfitError(f"unknown key {key!r}" + (f": did you mean {similar[0]}?" if similar else ""))


def _texts(key: str, values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise _UnfitError(f"{key}={values!r} is no list of texts")
    return tuple(values)


def points(sweep: Sweep, given: Mapping[str, Any]) -> list[Point]:
    """Return all combinations of a sweep in its order, with settings `given` beside it, which hold for all of them.

    Raises:
        ConfigurationError: a scheme is unknown, a value cannot be used, a given setting is one that the sweep varies, or there
            are more than MOST_POINTS.
    """
    _require_free(sweep, given)
    count = sum(len(block.schemes) * math.prod(map(len, block.axes.values())) for block in sweep.blocks)
    if count > MOST_POINTS:
        raise ConfigurationError(f"{sweep.source}: {count} combinations are more than {MOST_POINTS}: use fewer values")
    return [point for block in sweep.blocks for point in _points(sweep, block, given)]


def _require_free(sweep: Sweep, given: Mapping[str, Any]) -> None:
    """Refuse given settings that a block of the sweep sets itself."""
    varied = {name for block in sweep.blocks for name in (*block.settings, *block.axes)}
    if clash := given.keys() & varied:
        raise ConfigurationError(f"{flag(min(clash))} is what {sweep.source} varies: change it there")
    if "student" in varied and given.get("student_weights") is not None:
        raise ConfigurationError(
            f"--student-weights are of one student, and {sweep.source} has several: name the weights there"
        )


def _points(sweep: Sweep, block: Block, given: Mapping[str, Any]) -> Iterator[Point]:
    for scheme, *values in itertools.product(block.schemes, *block.axes.values()):
        varied = {**block.settings, **dict(zip(block.axes, values, strict=True))}
        try:
            config = ExperimentConfig(**{**sweep.settings, **given, **varied})
            parse_scheme(scheme).config(given_of(AdaptationConfig, config), config.seed)
        except ValidationError as error:
            raise ConfigurationError(f"{sweep.source}: {_first(error)}") from error
        except ConfigurationError as error:
            raise ConfigurationError(f"{sweep.source}: {error}") from error
        yield Point(scheme=scheme, config=config, varied=varied, axes=tuple(block.axes))


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    reason = first["msg"][:1].lower() + first["msg"][1:]
    return f"{key}={first['input']!r}: {reason}" if key else reason.removeprefix("value error, ")
