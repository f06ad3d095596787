"""Class sets and the reading of one set's labels in another."""

from pathlib import Path

import numpy as np
import pytest

from ams_common.classes import (
    ADE20K32,
    ADE20K150,
    BUILT_IN,
    CAMVID11,
    CITYSCAPES19,
    IGNORE,
    STREET7,
    VOC21,
    ClassSet,
    SegmentationClass,
    load_class_set,
)
from ams_common.errors import ConfigurationError


def make_set(*names: str) -> ClassSet:
    return ClassSet("test", tuple(SegmentationClass(name=name, colour=(1, 2, 3)) for name in names))


def mapped(source: ClassSet, name: str, target: ClassSet) -> str | None:
    label = int(source.lookup_into(target)[source.names.index(name)])
    return None if label == IGNORE else target.names[label]


def test_the_built_in_sets_have_their_published_sizes_and_orders() -> None:
    assert {name: len(each) for name, each in BUILT_IN.items()} == {
        "cityscapes19": 19,
        "camvid11": 11,
        "voc21": 21,
        "ade20k32": 32,
        "ade20k150": 150,
        "street7": 7,
        "lvs9": 9,
    }
    # Cityscapes train ids, as listed beside the data sets that use them.
    assert [CITYSCAPES19.names[number] for number in (0, 1, 8, 10, 11, 13, 18)] == [
        "road", "sidewalk", "vegetation", "sky", "person", "car", "bicycle",
    ]  # fmt: skip
    assert [VOC21.names[number] for number in (0, 7, 15)] == ["background", "car", "person"]
    assert [ADE20K32.names[number] for number in (2, 3, 5, 7, 12, 13, 21, 26)] == [
        "building", "sky", "tree", "road", "sidewalk", "person", "car", "house",
    ]  # fmt: skip
    # Numbers that the benchmark's models have in their configurations.
    assert [ADE20K150.names[number] for number in (0, 6, 11, 12, 20, 43, 80, 83, 102, 116, 127, 136, 149)] == [
        "wall", "road", "sidewalk", "person", "car", "signboard", "bus", "truck", "van", "minibike", "bicycle", "traffic-light",
        "flag",
    ]  # fmt: skip


@pytest.mark.parametrize("count", [0, 255])
def test_a_set_has_1_to_254_classes(count: int) -> None:
    with pytest.raises(ConfigurationError, match=f"has {count} classes"):
        make_set(*map(str, range(count)))
    assert len(make_set(*map(str, range(254)))) == 254


def test_a_set_names_each_class_once() -> None:
    with pytest.raises(ConfigurationError, match="'test' names a class twice"):
        make_set("road", "sky", "road")


def test_the_palette_has_a_colour_for_every_label_value() -> None:
    palette = STREET7.palette()
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    assert palette[0].tolist() == [128, 64, 128]
    assert not palette[7:].any()


def test_a_subset_keeps_the_order_of_the_set() -> None:
    assert CITYSCAPES19.subset(["car", "road"]).names == ("road", "car")
    assert CITYSCAPES19.subset([]) is CITYSCAPES19
    with pytest.raises(ConfigurationError, match="unknown class 'cat': class set 'street7' has road, sidewalk"):
        STREET7.subset(["road", "cat"])


@pytest.mark.parametrize(
    ("source", "name", "target", "expected"),
    [
        (CITYSCAPES19, "car", CAMVID11, "car"),
        (CITYSCAPES19, "truck", CAMVID11, "car"),
        (CITYSCAPES19, "wall", CAMVID11, "building"),
        (CITYSCAPES19, "terrain", CAMVID11, "tree"),
        (CITYSCAPES19, "rider", CAMVID11, "bicyclist"),
        (CITYSCAPES19, "traffic-light", CAMVID11, "sign"),
        (CAMVID11, "tree", CITYSCAPES19, "vegetation"),
        (CAMVID11, "pavement", CITYSCAPES19, "sidewalk"),
        (CAMVID11, "sign", CITYSCAPES19, "traffic-sign"),
        (VOC21, "sheep", CAMVID11, None),
        (VOC21, "motorbike", CITYSCAPES19, "motorcycle"),
        (ADE20K32, "other-31", CITYSCAPES19, None),
        (ADE20K32, "house", CAMVID11, "building"),
        (ADE20K150, "road", CITYSCAPES19, "road"),
        (ADE20K150, "signboard", CITYSCAPES19, "traffic-sign"),
        (ADE20K150, "skyscraper", STREET7, "building"),
        (ADE20K150, "van", VOC21, "car"),
        (ADE20K150, "palm", CAMVID11, "tree"),
        (ADE20K150, "airplane", VOC21, "aeroplane"),
        (ADE20K150, "sofa", CITYSCAPES19, None),
        (ADE20K150, "car", ADE20K32, "car"),
        (CITYSCAPES19, "vegetation", ADE20K150, "tree"),
        (CITYSCAPES19, "truck", ADE20K150, "truck"),
        (CITYSCAPES19, "motorcycle", ADE20K150, "minibike"),
        (VOC21, "dog", ADE20K150, "animal"),
        (STREET7, "vegetation", ADE20K150, "tree"),
    ],
)
def test_labels_are_read_in_another_set(source: ClassSet, name: str, target: ClassSet, expected: str | None) -> None:
    assert mapped(source, name, target) == expected


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_set_read_in_itself_stays_and_everything_else_is_ignored(name: str) -> None:
    each = BUILT_IN[name]
    table = each.lookup_into(each)
    assert table[: len(each)].tolist() == list(range(len(each)))
    assert (table[len(each) :] == IGNORE).all()
    assert table.dtype == np.uint8


def test_the_same_name_goes_before_an_accepted_one() -> None:
    target = ClassSet(
        "target",
        (
            SegmentationClass(name="vehicle", colour=(0, 0, 0), accepts=("car",)),
            SegmentationClass(name="car", colour=(0, 0, 0)),
        ),
    )
    assert mapped(make_set("car"), "car", target) == "car"


def test_what_a_set_accepts_is_no_class_of_its_own() -> None:
    for each in BUILT_IN.values():
        assert not [name for member in each.classes for name in member.accepts if name in each.names], each.name


def test_every_class_of_a_street_is_found_in_the_largest_set() -> None:
    for each in (CITYSCAPES19, CAMVID11, STREET7):
        lost = [name for name, rows in zip(each.names, each.source_rows(ADE20K150), strict=True) if not rows]
        assert set(lost) <= {"rider", "train"}, each.name


def test_neighbours_in_a_large_set_differ_in_colour() -> None:
    palette = ADE20K150.palette()[:150].astype(int)
    assert len({tuple(colour) for colour in palette.tolist()}) == 150
    assert (np.abs(np.diff(palette, axis=0)).sum(1) > 60).all()


def test_rows_of_a_pretrained_head() -> None:
    rows = CAMVID11.source_rows(CITYSCAPES19)
    assert len(rows) == 11
    assert [CITYSCAPES19.names[row] for row in rows[CAMVID11.names.index("car")]] == ["car", "truck", "bus", "train"]
    assert CAMVID11.source_rows(VOC21)[CAMVID11.names.index("sky")] == ()


SET_FILE = """
name = "yard"
[[classes]]
name = "lawn"
colour = [0, 255, 0]
accepts = ["grass"]
[[classes]]
name = "dog"
colour = [9, 8, 7]
"""


def test_a_set_is_loaded_by_name_or_from_a_file(tmp_path: Path) -> None:
    assert load_class_set("camvid11") is CAMVID11
    path = tmp_path / "yard.toml"
    path.write_text(SET_FILE)
    loaded = load_class_set(str(path))
    assert (loaded.name, loaded.names) == ("yard", ("lawn", "dog"))
    assert loaded.classes[0] == SegmentationClass(name="lawn", colour=(0, 255, 0), accepts=("grass",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not valid"),
        ("name = 'a'", "not valid: 'classes'"),
        ("name = 'a'\nclasses = 3", "must be an array"),
        ("[[classes]]\nname = 'b'\ncolour = [1, 2, 3]", "not valid: 'name'"),
        ("name = 'a'\n[[classes]]\nname = 'b'\ncolour = [1, 2]", "colour of 'b' must be three integers"),
        ("name = 'a'\n[[classes]]\nname = 'b'\ncolour = [1, 2, 256]", "colour of 'b'"),
        ("name = 'a'\n[[classes]]\nname = 'b'\ncolour = [1, 2, 3.0]", "colour of 'b'"),
        ("name = 'a'\n[[classes]]\nname = 'b'\ncolour = [1, 2, 3]\naccepts = 'c'", "accepts of 'b' must be a list"),
        ("name = 'a'\nclasses = [1]", "not valid"),
        ("name = 'a'\nclasses = []", "has 0 classes"),
    ],
)
def test_a_file_that_is_not_as_described_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "set.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        load_class_set(str(path))


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="unknown class set 'cityscape': use cityscapes19, camvid11"):
        load_class_set("cityscape")
    with pytest.raises(ConfigurationError, match=r"cannot read class set '.*absent.toml'"):
        load_class_set(str(tmp_path / "absent.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="cannot read class set"):
        load_class_set(str(tmp_path / "binary.toml"))
