"""CamVid, as published and as the SegNet tutorial has it.

    701_StillsRaw_full/SEQUENCE_FRAME.png     LabeledApproved_full/SEQUENCE_FRAME_L.png, colours of 32 classes
    train/SEQUENCE_FRAME.png                  trainannot/SEQUENCE_FRAME.png, numbers 0 to 11; likewise val and test

A recording is what has the same sequence. Frames are numbered at 30 Hz; most are 30 numbers apart. The 32 classes become 11 as
in the SegNet paper.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ams_common.classes import CAMVID11, IGNORE
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.label_files import Colour, mapped_colours
from ams_eval.inputs.recording import Recording
from ams_eval.inputs.sequences import DataSetLabels, frames_by_sequence, open_sequences
from ams_server.teachers.precomputed import read_label_png

RATE_HZ = 30.0
COLOURS: Mapping[str, tuple[Colour, ...]] = {
    "sky": ((128, 128, 128),),
    # archway, bridge, building, tunnel, wall
    "building": ((192, 0, 128), (0, 128, 64), (128, 0, 0), (64, 0, 64), (64, 192, 0)),
    # column or pole, traffic cone
    "pole": ((192, 192, 128), (0, 0, 64)),
    # road, markings for driving, other markings
    "road": ((128, 64, 128), (128, 0, 192), (192, 0, 64)),
    # sidewalk, parking block, road shoulder
    "pavement": ((0, 0, 192), (64, 192, 128), (128, 128, 192)),
    # tree, other vegetation
    "tree": ((128, 128, 0), (192, 192, 0)),
    # sign, text, traffic light
    "sign": ((192, 128, 128), (128, 128, 64), (0, 64, 64)),
    "fence": ((64, 64, 128),),
    # car, pickup, truck or bus, train, others that move
    "car": ((64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)),
    # pedestrian, child, pram or cart, animal
    "pedestrian": ((64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)),
    # bicyclist, motorcycle or scooter
    "bicyclist": ((0, 128, 192), (192, 0, 192)),
}
"""Colours of the 32 classes but void, by the class of camvid11 that they belong to."""
_VOID: Colour = (0, 0, 0)
_STILLS, _APPROVED = "701_StillsRaw_full", "LabeledApproved_full"
_SPLITS = ("train", "val", "test")
_NAME = re.compile(r"(?P<sequence>[A-Za-z0-9]+)_f?(?P<frame>\d+)\.png")
_labels: Mapping[Colour, int] = {colour: CAMVID11.names.index(name) for name, colours in COLOURS.items() for colour in colours}
_read_colours = mapped_colours({**_labels, _VOID: IGNORE})


def camvid(path: Path, config: InputConfig) -> list[Recording]:
    """Return the recordings of a CamVid folder in either layout; none where it is something else.

    Raises:
        AmsError: a picture or its labels cannot be read or do not match, or a setting does not fit.
    """
    stills = path if path.name == _STILLS else path / _STILLS
    if stills.is_dir():
        labels = DataSetLabels(CAMVID11, _read_colours, _approved_file)
        return open_sequences(frames_by_sequence(_NAME, stills.iterdir()), RATE_HZ, labels, config)
    splits = [path / split for split in _SPLITS if (path / f"{split}annot").is_dir() and (path / split).is_dir()]
    files = [file for split in splits for file in split.iterdir()]
    labels = DataSetLabels(CAMVID11, read_label_png, _annotation_file)
    return open_sequences(frames_by_sequence(_NAME, files), RATE_HZ, labels, config)


def _approved_file(picture: Path) -> Path:
    return picture.parent.with_name(_APPROVED) / f"{picture.stem}_L.png"


def _annotation_file(picture: Path) -> Path:
    return picture.parent.with_name(f"{picture.parent.name}annot") / picture.name
