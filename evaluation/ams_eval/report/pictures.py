"""Pictures of the report, held within the page."""

import base64

import cv2

from ams_common.classes import ClassSet, UInt8Array
from ams_edge.overlay import draw_overlay
from ams_eval.judging import Moment

JPEG_QUALITY = 80
OPACITY = 0.55


def data_uri(image: UInt8Array) -> str:
    """Return uint8 RGB [H, W, 3] as the data: address of a JPEG."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def moment_pictures(moment: Moment, classes: ClassSet) -> dict[str, str]:
    """Return the camera's picture and the overlays of teacher, model as it came and adapted model, as data: addresses."""
    palette = classes.palette()
    labels = {"teacher": moment.teacher, "without": moment.without, "adapted": moment.adapted}
    overlays = {name: draw_overlay(moment.picture, each, palette, OPACITY) for name, each in labels.items()}
    return {"camera": data_uri(moment.picture)} | {name: data_uri(each) for name, each in overlays.items()}
