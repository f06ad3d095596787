"""Class sets: what the numbers in a label map mean, and how labels of one set are read in another.

A label map is uint8 [..., H, W]; IGNORE marks pixels that no class claims.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ams_common import ade20k
from ams_common.errors import ConfigurationError, system_reason

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

IGNORE = 255
UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class SegmentationClass:
    """One class."""

    name: str
    colour: tuple[int, int, int]
    """RGB in 0..255, for overlays."""
    accepts: tuple[str, ...] = ()
    """Names in other class sets that count as this class, beside its own name."""

    def claims(self, other: "SegmentationClass") -> bool:
        """Tell whether pixels that another set calls `other` are this class."""
        return other.name == self.name or other.name in self.accepts


@dataclass(frozen=True)
class ClassSet:
    """An ordered set of classes; a label is an index into `classes`."""

    name: str
    classes: tuple[SegmentationClass, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) < IGNORE:
            raise ConfigurationError(f"class set {self.name!r} has {len(self.classes)} classes, 1 to 254 are possible")
        if len(set(self.names)) != len(self.classes):
            raise ConfigurationError(f"class set {self.name!r} names a class twice")

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in label order."""
        return tuple(each.name for each in self.classes)

    def palette(self) -> UInt8Array:
        """Return uint8 [256, 3]: the RGB colour of every label value; black where there is no class."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = [each.colour for each in self.classes]
        return table

    def subset(self, names: Sequence[str]) -> "ClassSet":
        """Return the set of the named classes, in the order of this set; an empty sequence means all.

        Raises:
            ConfigurationError: a name is not in this set.
        """
        for name in names:
            if name not in self.names:
                raise ConfigurationError(f"unknown class {name!r}: class set {self.name!r} has {', '.join(self.names)}")
        if not names:
            return self
        return ClassSet(self.name, tuple(each for each in self.classes if each.name in names))

    def lookup_into(self, target: "ClassSet") -> UInt8Array:
        """Return uint8 [256]: for every label of this set the label in `target`, IGNORE where `target` has no such class.

        A class goes to the target class of the same name, else to the first one that accepts it, else to the first one that
        it accepts itself.
        """
        table = np.full(256, IGNORE, np.uint8)
        for index, each in enumerate(self.classes):
            table[index] = _find(each, target)
        return table

    def source_rows(self, source: "ClassSet") -> tuple[tuple[int, ...], ...]:
        """For each class of this set, the labels of `source` that are read as it; empty where there is none.

        A pretrained head for `source` starts this set's head with (the mean of) these rows.
        """
        table = source.lookup_into(self)
        return tuple(tuple(int(row) for row in np.flatnonzero(table[: len(source)] == label)) for label in range(len(self)))


def _find(each: SegmentationClass, target: ClassSet) -> int:
    if each.name in target.names:
        return target.names.index(each.name)
    for label, candidate in enumerate(target.classes):
        if candidate.claims(each):
            return label
    for label, candidate in enumerate(target.classes):
        if each.claims(candidate):
            return label
    return IGNORE


def _set(name: str, *rows: tuple[str, str, str]) -> ClassSet:
    classes = tuple(
        SegmentationClass(
            name=label,
            colour=(int(colour[:2], 16), int(colour[2:4], 16), int(colour[4:], 16)),
            accepts=tuple(accepts.split()),
        )
        for label, colour, accepts in rows
    )
    return ClassSet(name, classes)


CITYSCAPES19 = _set(
    "cityscapes19",
    ("road", "804080", ""),
    ("sidewalk", "f423e8", "pavement floor"),
    ("building", "464646", "house skyscraper"),
    ("wall", "66669c", ""),
    ("fence", "be9999", ""),
    ("pole", "999999", ""),
    ("traffic-light", "faaa1e", ""),
    ("traffic-sign", "dcdc00", "sign signboard"),
    ("vegetation", "6b8e23", "tree plant palm flower"),
    ("terrain", "98fb98", "grass earth field"),
    ("sky", "4682b4", ""),
    ("person", "dc143c", "pedestrian"),
    ("rider", "ff0000", "bicyclist"),
    ("car", "00008e", "van"),
    ("truck", "000046", ""),
    ("bus", "003c64", ""),
    ("train", "005064", ""),
    ("motorcycle", "0000e6", "motorbike minibike"),
    ("bicycle", "770b20", ""),
)

CAMVID11 = _set(
    "camvid11",
    ("sky", "808080", ""),
    ("building", "800000", "wall house skyscraper"),
    ("pole", "c0c080", ""),
    ("road", "804080", ""),
    ("pavement", "3c28de", "sidewalk floor"),
    ("tree", "808000", "vegetation terrain plant palm flower grass earth field"),
    ("sign", "c08080", "traffic-light traffic-sign signboard"),
    ("fence", "404080", ""),
    ("car", "400080", "truck bus train van"),
    ("pedestrian", "404000", "person"),
    ("bicyclist", "0080c0", "rider motorcycle bicycle motorbike minibike"),
)

VOC21 = _set(
    "voc21",
    ("background", "000000", ""),
    ("aeroplane", "800000", "airplane"),
    ("bicycle", "008000", ""),
    ("bird", "808000", ""),
    ("boat", "000080", "ship"),
    ("bottle", "800080", ""),
    ("bus", "008080", ""),
    ("car", "808080", "truck van"),
    ("cat", "400000", ""),
    ("chair", "c00000", "armchair swivel-chair"),
    ("cow", "408000", ""),
    ("diningtable", "c08000", "table"),
    ("dog", "400080", ""),
    ("horse", "c00080", ""),
    ("motorbike", "408080", "motorcycle minibike"),
    ("person", "c08080", "pedestrian rider"),
    ("pottedplant", "004000", ""),
    ("sheep", "804000", ""),
    ("sofa", "00c000", ""),
    ("train", "80c000", ""),
    ("tvmonitor", "004080", "television-receiver monitor crt-screen"),
)

# Of the 32 classes of the mobile ADE20K models these have a public meaning; the others are "other-N".
_ADE20K32_NAMES = {
    0: ("other", ""),
    1: ("wall", ""),
    2: ("building", ""),
    3: ("sky", ""),
    4: ("floor", ""),
    5: ("tree", "vegetation"),
    6: ("ceiling", ""),
    7: ("road", ""),
    10: ("grass", "terrain"),
    12: ("sidewalk", "pavement"),
    13: ("person", "pedestrian rider"),
    18: ("plant", ""),
    21: ("car", "truck bus"),
    26: ("house", ""),
}


def _coloured_set(name: str, rows: Iterable[tuple[str, str]]) -> ClassSet:
    """Return a set of (name, accepts) that has no usual colours: neighbours in the order get different ones."""
    numbered = enumerate(rows)
    return _set(name, *((row[0], f"{n * 37 % 256:02x}{n * 91 % 256:02x}{n * 151 % 256:02x}", row[1]) for n, row in numbered))


ADE20K32 = _coloured_set("ade20k32", (_ADE20K32_NAMES.get(label, (f"other-{label}", "")) for label in range(32)))

ADE20K150 = _coloured_set("ade20k150", ((name, ade20k.ACCEPTS.get(name, "")) for name in ade20k.NAMES))

STREET7 = _set(
    "street7",
    ("road", "804080", ""),
    ("sidewalk", "f423e8", "pavement"),
    ("building", "464646", "wall house skyscraper"),
    ("vegetation", "6b8e23", "tree plant palm flower terrain grass earth field"),
    ("sky", "4682b4", ""),
    ("person", "dc143c", "pedestrian rider bicyclist"),
    ("car", "00008e", "truck bus train van"),
)

# The classes that the evaluation of Just-In-Time counts; the other objects of its teacher are background.
LVS9 = _set(
    "lvs9",
    ("background", "000000", ""),
    ("bird", "a52a2a", ""),
    ("bike", "770b20", "bicycle motorcycle motorbike minibike bicyclist"),
    ("auto", "00008e", "car truck bus van"),
    ("dog", "00e2fc", ""),
    ("elephant", "6e4c00", ""),
    ("giraffe", "d2b450", ""),
    ("horse", "b6b6ff", ""),
    ("person", "dc143c", "pedestrian rider"),
)

BUILT_IN = {each.name: each for each in (CITYSCAPES19, CAMVID11, VOC21, ADE20K32, ADE20K150, STREET7, LVS9)}


def load_class_set(name_or_path: str) -> ClassSet:
    """Return a built-in class set by name, or read one from a TOML file.

    The file holds `name = "..."` and one `[[classes]]` table per label, in label order, with `name`, `colour = [r, g, b]`
    and optionally `accepts = ["names", "in other sets"]`.

    Raises:
        ConfigurationError: no such set, or the file is not as described.
    """
    if name_or_path in BUILT_IN:
        return BUILT_IN[name_or_path]
    path = Path(name_or_path)
    if path.suffix != ".toml":
        raise ConfigurationError(f"unknown class set {name_or_path!r}: use {', '.join(BUILT_IN)} or the path of a TOML file")
    try:
        return _from_table(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        reason = system_reason(error)
        raise ConfigurationError(f"cannot read class set {name_or_path!r}: {reason}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"cannot read class set {name_or_path!r}: {error}") from error
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"class set file {name_or_path!r} is not valid: {error}") from error


def _from_table(table: dict[str, object]) -> ClassSet:
    entries = table["classes"]
    if not isinstance(entries, list):
        raise ValueError("classes must be an array of tables")
    return ClassSet(str(table["name"]), tuple(_class_from_table(entry) for entry in entries))


def _class_from_table(entry: dict[str, object]) -> SegmentationClass:
    colour, accepts = entry["colour"], entry.get("accepts", [])
    if not (isinstance(colour, list) and len(colour) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in colour)):
        raise ValueError(f"colour of {entry['name']!r} must be three integers in 0..255")
    if not isinstance(accepts, list):
        raise ValueError(f"accepts of {entry['name']!r} must be a list of names")
    return SegmentationClass(
        name=str(entry["name"]), colour=(colour[0], colour[1], colour[2]), accepts=tuple(map(str, accepts))
    )
