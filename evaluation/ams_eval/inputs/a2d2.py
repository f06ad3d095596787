"""A2D2: the folders of one camera.

    DATE/camera/cam_front_center/..._camera_frontcenter_NUMBER.png, and .json with the capture time as `cam_tstamp`, in us
    DATE/label/cam_front_center/..._label_frontcenter_NUMBER.png, the colours of 55 classes

A recording is the front centre camera of one date, or the camera whose folder is given. Pictures are taken as they are, lens
distortion included. Drives without the folder `label` have no labels.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from ams_common.classes import CITYSCAPES19, IGNORE
from ams_common.errors import SourceError
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.label_files import Colour, mapped_colours
from ams_eval.inputs.naming import in_natural_order
from ams_eval.inputs.recording import Recording
from ams_eval.inputs.sequences import DataSetLabels, open_labelled

MOST_RECORD_BYTES = 1 << 20
"""Largest .json of a picture."""
COLOURS: Mapping[str, str] = {
    # normal street, drivable cobblestone, slow drive area, restricted area, speed bumper, zebra crossing, solid line, dashed
    # line, painted instructions
    "road": "ff00ff b432b4 eee9bf 960096 6e6e00 d23273 ffc125 8000ff c87dd2",
    # sidewalk, curbstone
    "sidewalk": "b496c8 808000",
    "building": "f1e6ff",
    "pole": "fff68f",
    # traffic signals 1 to 3
    "traffic-light": "0080ff 1e1c9e 3c1c64",
    # traffic signs 1 to 3
    "traffic-sign": "00ffff 1edcdc 3c9dc7",
    # nature object
    "vegetation": "93fdc2",
    "sky": "87ceff",
    # pedestrians 1 to 3
    "person": "cc99ff bd499b ef59bf",
    # cars 1 to 4
    "car": "ff0000 c80000 960000 800000",
    # trucks 1 to 3
    "truck": "ff8000 c88000 968000",
    # small vehicles 1 to 3
    "motorcycle": "00ff00 00c800 009600",
    # bicycles 1 to 4
    "bicycle": "b65906 963204 5a1e01 5a1e1e",
}
"""Colours, in hexadecimal, of the classes of A2D2 that a class of cityscapes19 stands for."""
OTHER_COLOURS = (
    # utility vehicles, sidebars, irrelevant signs, road blocks, tractor, non-drivable street, obstacles, animals
    "ffff00 ffffc8 e96400 400040 b97a57 000064 8b636c ff0080 ccff99 "
    # grid structure, signal corpus, electronic traffic, parking area, ego car, traffic guide, blurred area, rain dirt
    "eea2ad 212cb1 ff46b9 9696c8 48d1cc 9f79ee 60458f 352e52"
)
"""Colours of the others: they are none of these, or may be several."""
_CAMERA, _FRONT = "camera", "cam_front_center"


def _colour(text: str) -> Colour:
    return int(text[:2], 16), int(text[2:4], 16), int(text[4:], 16)


_labels = {_colour(text): CITYSCAPES19.names.index(name) for name, texts in COLOURS.items() for text in texts.split()}
_read_labels = mapped_colours(_labels | {_colour(text): IGNORE for text in OTHER_COLOURS.split()})


def a2d2(path: Path, config: InputConfig) -> list[Recording]:
    """Return the recordings of a folder of A2D2, of one date or of one camera; none where it is something else.

    Raises:
        SourceError: a picture or its capture time cannot be read, or times do not ascend.
        AmsError: labels do not match the frames, or a setting does not fit.
    """
    labels = DataSetLabels(CITYSCAPES19, _read_labels, _label_file)
    recordings = []
    for folder in _camera_folders(path):
        files = in_natural_order(folder.glob(f"*_{_CAMERA}_*.png"))
        if files:
            times_s = [_capture_time_s(file) for file in files]
            recordings.append(open_labelled(folder.parents[1].name, files, times_s, labels, config))
    return recordings


def _camera_folders(path: Path) -> list[Path]:
    if path.parent.name == _CAMERA and path.name.startswith("cam_"):
        return [path]
    return in_natural_order(path.rglob(f"{_CAMERA}/{_FRONT}"))


def _label_file(picture: Path) -> Path:
    date = picture.parents[2]
    return date / "label" / picture.parent.name / picture.name.replace(f"_{_CAMERA}_", "_label_")


def _capture_time_s(picture: Path) -> float:
    path = picture.with_suffix(".json")
    try:
        if path.stat().st_size > MOST_RECORD_BYTES:
            raise ValueError("it is too large")
        record = json.loads(path.read_bytes())
        time_us = record["cam_tstamp"]
        if type(time_us) not in (int, float) or not math.isfinite(time_us):
            raise ValueError(f"cam_tstamp is {time_us!r}")
        return float(time_us) / 1e6
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise SourceError(f"{str(path)!r} has no capture time for its picture: {error}") from error
