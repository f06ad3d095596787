"""Draws label maps over pictures, for people to look at."""

from collections.abc import Sequence

import cv2
import numpy as np

from ams_common.classes import IGNORE, ClassSet
from ams_edge.frame import UInt8Array

OPACITY = 0.5
"""Share of the class colour where nothing else is asked for."""
SHORTEST_WIDTH, LONGEST_SIDE = 640, 1280
"""An overlay is enlarged or reduced to this: its legend stays readable, and drawing and coding it stay cheap."""
SMOOTHING_PIXELS = 5
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45
ROW_PIXELS, SWATCH_PIXELS, GAP_PIXELS = 24, 14, 8
BACKGROUND, INK = (24, 24, 28), (235, 235, 235)


def draw_overlay(image: UInt8Array, labels: UInt8Array, palette: UInt8Array, opacity: float = OPACITY) -> UInt8Array:
    """Return the picture tinted with the colour of each pixel's class, and each class outlined in its full colour.

    Args:
        image: RGB [H, W, 3].
        labels: [h, w], a label map of the same picture at any size; pixels with IGNORE stay untinted.
        palette: RGB [256, 3], the colour of each label.
        opacity: 0 for the bare picture to 1 for the bare colours.
    """
    height, width = image.shape[:2]
    fitted = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    if labels.shape[0] < height:
        fitted = cv2.medianBlur(fitted, SMOOTHING_PIXELS)  # rounds the stairs that enlarging leaves
    colours = cv2.applyColorMap(fitted, palette.reshape(256, 1, 3))
    overlay = cv2.addWeighted(image, 1 - opacity, colours, opacity, 0)
    edges = cv2.morphologyEx(fitted, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
    if opacity > 0:
        cv2.copyTo(colours, edges, overlay)
    cv2.copyTo(image, (fitted == IGNORE).view(np.uint8), overlay)
    return np.asarray(overlay, np.uint8)


def draw_legend(classes: ClassSet, width: int) -> UInt8Array:
    """Return RGB [rows * ROW_PIXELS, width, 3]: a strip with the colour and name of each class, in as many rows as needed."""
    places = _legend_places(classes.names, width)
    strip = np.full(((places[-1][0] + 1) * ROW_PIXELS, width, 3), BACKGROUND, np.uint8)
    for (row, left), each in zip(places, classes.classes, strict=True):
        top = row * ROW_PIXELS + (ROW_PIXELS - SWATCH_PIXELS) // 2
        cv2.rectangle(strip, (left, top), (left + SWATCH_PIXELS, top + SWATCH_PIXELS), each.colour, cv2.FILLED)
        origin = (left + SWATCH_PIXELS + GAP_PIXELS // 2, top + SWATCH_PIXELS - 2)
        cv2.putText(strip, each.name, origin, FONT, FONT_SCALE, INK, 1, cv2.LINE_AA)
    return strip


def draw_caption(version: int, model_age_s: float | None, width: int) -> UInt8Array:
    """Return RGB [ROW_PIXELS, width, 3]: a strip that says which model made the labels and how old it is."""
    age = "as it came" if model_age_s is None else f"{model_age_s:.1f} s old"
    strip = np.full((ROW_PIXELS, width, 3), BACKGROUND, np.uint8)
    origin = GAP_PIXELS, (ROW_PIXELS + SWATCH_PIXELS) // 2 - 2
    cv2.putText(strip, f"model {version}, {age}", origin, FONT, FONT_SCALE, INK, 1, cv2.LINE_AA)
    return strip


def overlay_size(width: int, height: int) -> tuple[int, int]:
    """Return the even (width, height) at which a picture of `width` x `height` pixels is drawn, in its own proportions."""
    scale = max(1.0, SHORTEST_WIDTH / width)
    scale = min(scale, LONGEST_SIDE / max(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _legend_places(names: Sequence[str], width: int) -> list[tuple[int, int]]:
    """Return (row, left edge in pixels) of each legend entry."""
    places = []
    row, left = 0, GAP_PIXELS
    for name in names:
        text_width = cv2.getTextSize(name, FONT, FONT_SCALE, 1)[0][0]
        entry_width = SWATCH_PIXELS + text_width + 2 * GAP_PIXELS
        if left + entry_width > width and left > GAP_PIXELS:
            row, left = row + 1, GAP_PIXELS
        places.append((row, left))
        left += entry_width
    return places
