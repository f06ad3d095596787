"""Pictures of moments with what the teacher, people and the schemes say about them."""

import html
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ams_common.classes import BUILT_IN, ClassSet, SegmentationClass, UInt8Array, load_class_set
from ams_common.errors import AmsError
from ams_common.iou import confusion_matrix, mean_iou
from ams_edge.overlay import draw_overlay
from ams_eval.outcome import Moments, Outcome
from ams_eval.report.pictures import OPACITY, data_uri
from ams_eval.result import percent
from ams_eval.scores import at_size_of

MOST_FIGURES = 6
PICTURE_WIDTH = 400
_MOST_COLUMNS = 5
_GOLDEN_DEGREES = 137.508
"""Hues this far apart stay apart for any number of them."""


class Panel(NamedTuple):
    """One overlay of a moment."""

    name: str
    labels: UInt8Array
    miou: float
    """Against the teacher in this picture alone, 0..1; NaN for what is not compared."""


def class_set_of(outcome: Outcome) -> ClassSet:
    """Return the scored classes with colours: those of the class set that the settings name, or of one that has them all."""
    named = str(outcome.settings.get("class_set"))
    known = sorted(BUILT_IN.values(), key=lambda each: each.name != named)
    with suppress(AmsError):
        known.insert(0, load_class_set(named))
    for each in known:
        colours = {one.name: one.colour for one in each.classes}
        if colours.keys() >= set(outcome.classes):
            return ClassSet("shown", tuple(SegmentationClass(name=name, colour=colours[name]) for name in outcome.classes))
    return ClassSet("shown", tuple(SegmentationClass(name=name, colour=_colour(i)) for i, name in enumerate(outcome.classes)))


def moment_mious(outcome: Outcome, moments: Moments) -> npt.NDArray[np.float64]:
    """Return the scheme's mIoU against the teacher at each moment, float64 [M]; NaN for a moment it has no labels of."""
    place = {int(frame): index for index, frame in enumerate(outcome.moment_frames)}
    values = np.full(len(moments.frames), np.nan)
    for index, frame in enumerate(moments.frames):
        if int(frame) in place:
            predicted = at_size_of(moments.teacher[index], outcome.moment_labels[place[int(frame)]])
            values[index] = mean_iou(confusion_matrix(moments.teacher[index], predicted, len(outcome.classes)))
    return values


def choose_moments(mious: npt.NDArray[np.float64], most: int = MOST_FIGURES) -> list[int]:
    """Return the positions of the moments at which schemes differ most, one of each stretch of time, in order.

    `mious`, float64 [schemes, M], are of all schemes; with one scheme it is the moments at which it is worst.
    """
    worst = np.where(np.isnan(mious), 1.0, mious).min(axis=0, initial=1.0)
    best = np.where(np.isnan(mious), 0.0, mious).max(axis=0, initial=0.0) if len(mious) > 1 else np.ones_like(worst)
    stretches = np.array_split(np.arange(mious.shape[1]), min(most, max(1, mious.shape[1])))
    return [int(each[np.argmax((best - worst)[each])]) for each in stretches if len(each)]


def filmstrip(outcomes: Mapping[str, Outcome], moments: Moments, chosen: Sequence[int]) -> str:
    """Return the chosen moments as HTML: picture, teacher, people's labels where there are any, and each scheme by its name."""
    classes = class_set_of(next(iter(outcomes.values())))
    mious = {name: moment_mious(outcome, moments) for name, outcome in outcomes.items()}
    figures = "".join(_figure(moments, index, _panels(outcomes, mious, moments, index), classes.palette()) for index in chosen)
    colours = "".join(
        f'<li><i class="box" style="background:rgb{each.colour}"></i>{html.escape(each.name)}</li>' for each in classes.classes
    )
    return f'<ul class="key">{colours}</ul>{figures}'


def _panels(
    outcomes: Mapping[str, Outcome], mious: Mapping[str, npt.NDArray[np.float64]], moments: Moments, index: int
) -> list[Panel]:
    panels = [Panel("teacher", moments.teacher[index], np.nan)]
    if moments.human is not None and (moments.human[index] < len(next(iter(outcomes.values())).classes)).any():
        panels.append(Panel("human labels", moments.human[index], np.nan))
    for name, outcome in outcomes.items():
        (place,) = np.nonzero(outcome.moment_frames == moments.frames[index])
        if place.size:
            panels.append(Panel(name, outcome.moment_labels[place[0]], float(mious[name][index])))
    return panels


def _figure(moments: Moments, index: int, panels: Sequence[Panel], palette: UInt8Array) -> str:
    picture = _reduced(moments.pictures[index])
    best = max((each.miou for each in panels if not np.isnan(each.miou)), default=np.nan)
    parts = [_image(picture, "picture", "")]
    for each in panels:
        overlay = draw_overlay(picture, each.labels, palette, OPACITY)
        told = html.escape(each.name) if np.isnan(each.miou) else f"{html.escape(each.name)} {percent(each.miou)}"
        compared = sum(not np.isnan(one.miou) for one in panels) > 1
        parts.append(_image(overlay, told, "best" if compared and each.miou == best else ""))
    columns = math.ceil(len(parts) / math.ceil(len(parts) / _MOST_COLUMNS))
    return (
        f'<figure class="moment"><figcaption>{moments.times_s[index]:.1f} s</figcaption>'
        f'<div class="strip" style="--columns:{columns}">{"".join(parts)}</div></figure>'
    )


def _image(image: UInt8Array, name: str, style: str) -> str:
    return f'<div><img src="{data_uri(image)}" alt="{name}" loading="lazy"><em class="{style}">{name}</em></div>'


def _reduced(picture: UInt8Array) -> UInt8Array:
    height, width = picture.shape[:2]
    if width <= PICTURE_WIDTH:
        return picture
    size = (PICTURE_WIDTH, round(PICTURE_WIDTH * height / width))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _colour(index: int) -> tuple[int, int, int]:
    hue = round((index * _GOLDEN_DEGREES) % 360 / 2)
    pixel = cv2.cvtColor(np.array([[[hue, 150, 215 if index % 2 else 170]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0]
    return int(pixel[0]), int(pixel[1]), int(pixel[2])
