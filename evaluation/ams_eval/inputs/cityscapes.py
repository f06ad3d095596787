"""Cityscapes: leftImg8bit or leftImg8bit_sequence, and gtFine.

    leftImg8bit_sequence/SPLIT/CITY/CITY_SEQUENCE_FRAME_leftImg8bit.png
    gtFine/SPLIT/CITY/CITY_SEQUENCE_FRAME_gtFine_labelTrainIds.png, or ..._gtFine_labelIds.png

A recording is what has the same city and sequence. Frames are numbered at 17 Hz, so gaps between the snippets of a long drive
are gaps in its time. One frame of every snippet of 30 has human labels.
"""

import re
from pathlib import Path

from ams_common.classes import CITYSCAPES19, UInt8Array
from ams_common.errors import SourceError
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.label_files import mapped_values
from ams_eval.inputs.recording import Recording
from ams_eval.inputs.sequences import DataSetLabels, frames_by_sequence, open_sequences
from ams_server.teachers.precomputed import read_label_png

RATE_HZ = 17.0
_PICTURES = "leftImg8bit"
_NAME = re.compile(rf"(?P<sequence>.+_\d{{6}})_(?P<frame>\d{{6}})_{_PICTURES}\.png")
_TRAIN_IDS, _IDS = "gtFine_labelTrainIds", "gtFine_labelIds"
_EVALUATED_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Numbers of the classes in labelIds files, in the order of cityscapes19."""
_read_ids = mapped_values({number: label for label, number in enumerate(_EVALUATED_IDS)})


def cityscapes(path: Path, config: InputConfig) -> list[Recording]:
    """Return the recordings of a Cityscapes folder, of any part of it down to a city; none where it is something else.

    Raises:
        SourceError: it has single frames alone, or one cannot be read.
        AmsError: labels do not match the frames, or a setting does not fit.
    """
    sequences = frames_by_sequence(_NAME, path.rglob(f"*_{_PICTURES}.png"))
    recordings = open_sequences(sequences, RATE_HZ, DataSetLabels(CITYSCAPES19, _read, _label_file), config)
    if sequences and not recordings:
        raise SourceError(f"{str(path)!r} has single frames alone: use leftImg8bit_sequence of Cityscapes")
    return recordings


def _label_file(picture: Path) -> Path:
    """Return the labels of a picture, train ids where there are some."""
    top = next((folder for folder in picture.parents if folder.name.startswith(_PICTURES)), picture.parent)
    folder = top.parent / "gtFine" / picture.relative_to(top).parent
    train_ids = folder / picture.name.replace(_PICTURES, _TRAIN_IDS)
    return train_ids if train_ids.is_file() else folder / picture.name.replace(_PICTURES, _IDS)


def _read(path: Path) -> UInt8Array:
    return read_label_png(path) if _TRAIN_IDS in path.name else _read_ids(path)
