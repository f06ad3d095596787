"""Plots as inline SVG whose colours are CSS classes of the page, so that they follow its light and dark dress."""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

WIDE, NARROW = 760, 440
"""Widths of a drawing in pixels: alone in its row, or one of two."""
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 26, 30
"""Margins around the plot in pixels."""
_LEAST_SCALE = 0.72
"""A page scrolls a drawing sideways rather than shrink it further."""
_PIXELS_PER_TICK_X, _PIXELS_PER_TICK_Y = 90, 42
LETTER_PIXELS = 7
"""Width of a letter, about."""
_ROW_PIXELS, _LINE_PIXELS = 10, 15
_KEY_ROW_PIXELS, _KEY_STROKE_PIXELS, _KEY_GAP_PIXELS = 20, 20, 26


class Span(NamedTuple):
    """Range of an axis."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Return where `value` lies, 0 at `low` to 1 at `high`."""
        return (value - self.low) / (self.high - self.low)


class LogSpan(NamedTuple):
    """Range of an axis on which equal ratios are equally far apart; both ends are above 0."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Return where `value` lies, 0 at `low` and below to 1 at `high`."""
        return math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)


class Dot(NamedTuple):
    """A point with a name."""

    x: float
    y: float
    name: str
    style: str


@dataclass(kw_only=True)
class Chart:
    """A plot under construction: the axes first, then what is drawn over them, in the order of the calls."""

    title: str
    """Read aloud to those who cannot see."""
    x: Span | LogSpan
    y: Span | LogSpan
    y_unit: str = ""
    x_unit: str = "s"
    height: int = 220
    width: int = WIDE
    tick_rows: int = 0
    """Rows of strokes below the plot; without any, strokes stand on its foot."""
    keys: Sequence[tuple[str, str]] = ()
    """Below all else, which makes the drawing higher: the CSS class of a line and its name."""
    _parts: list[str] = field(default_factory=list)

    def band(self, start: float, end: float, name: str, *, shaded: bool) -> None:
        """Mark a stretch of the x axis: by its name where there is room, and by shading it."""
        left, right = self._x(start), self._x(end)
        if shaded:
            height = self._foot - TOP
            self._parts.append(f'<rect class="band" x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" height="{height}"/>')
        if self.width == WIDE:
            self._text((left + right) / 2, TOP - 10, name, "middle", "phase")

    def line(self, xs: Iterable[float], ys: Iterable[float], style: str) -> None:
        """Draw a line of CSS class `style`; it is interrupted where y is NaN."""
        pieces, pen = [], "M"
        for x, y in zip(xs, ys, strict=True):
            if math.isnan(y):
                pen = "M"
                continue
            pieces.append(f"{pen}{self._x(x):.1f} {self._y(y):.1f}")
            pen = "L"
        self._parts.append(f'<path class="line {style}" d="{"".join(pieces)}"/>')

    def gain(self, xs: Sequence[float], lower: Sequence[float], upper: Sequence[float]) -> None:
        """Fill the area between two lines where `upper` is above `lower`."""
        known = [(x, low, max(low, up)) for x, low, up in zip(xs, lower, upper, strict=True) if not math.isnan(low + up)]
        there = [f"{self._x(x):.1f},{self._y(up):.1f}" for x, _, up in known]
        back = [f"{self._x(x):.1f},{self._y(low):.1f}" for x, low, _ in reversed(known)]
        self._parts.append(f'<polygon class="area" points="{" ".join(there + back)}"/>')

    def level(self, y: float, name: str, style: str) -> None:
        """Draw a dashed line across, with its name above it."""
        height = self._y(y)
        self._parts.append(f'<path class="level {style}" d="M{LEFT} {height:.1f}H{self.width - RIGHT}"/>')
        self._text(self.width - RIGHT - 4, height - 5, name, "end", f"note {style}")

    def note(self, text: str) -> None:
        """Write a remark at the foot of the plot, on the right."""
        self._text(self.width - RIGHT - 4, self._foot - 8, text, "end", "note")

    def upright(self, x: float, style: str) -> None:
        """Draw a dashed line from the foot to the top."""
        self._parts.append(f'<path class="level {style}" d="M{self._x(x):.1f} {self._foot}V{TOP}"/>')

    def range(self, xs: Sequence[float], lower: Sequence[float], upper: Sequence[float], style: str) -> None:
        """Fill the area between two lines, where both are known, in the colour of `style`."""
        known = [each for each in zip(xs, lower, upper, strict=True) if not math.isnan(each[1] + each[2])]
        there = [f"{self._x(x):.1f},{self._y(up):.1f}" for x, _, up in known]
        back = [f"{self._x(x):.1f},{self._y(low):.1f}" for x, low, _ in reversed(known)]
        self._parts.append(f'<polygon class="range {style}" points="{" ".join(there + back)}"/>')

    def speck(self, x: float, y: float, style: str) -> None:
        """Mark a point without a name."""
        self._parts.append(f'<circle class="speck {style}" cx="{self._x(x):.1f}" cy="{self._y(y):.1f}" r="3"/>')

    def mark(self, x: float, y: float, style: str, hint: str) -> None:
        """Mark a point of a line; `hint` shows under the pointer."""
        place = f'cx="{self._x(x):.1f}" cy="{self._y(y):.1f}" r="4.5"'
        self._parts.append(f'<circle class="dot {style}" {place}><title>{html.escape(hint)}</title></circle>')

    def dots(self, dots: Sequence[Dot]) -> None:
        """Mark points with their names beside them, moved down where they would cover each other or a point."""
        taken = [(self._x(dot.x) - 6, self._x(dot.x) + 6, self._y(dot.y) + 4) for dot in dots]
        for dot in sorted(dots, key=lambda each: self._y(each.y)):
            x, y = self._x(dot.x), self._y(dot.y)
            left, length = x > self.width * 0.75, LETTER_PIXELS * len(dot.name)
            start = x - 11 - length if left else x + 11
            beside = [foot for begin, end, foot in taken if begin < start + length and end > start]
            foot = free_foot(y + 4, beside)
            taken.append((start, start + length, foot))
            self._parts.append(f'<circle class="dot {dot.style}" cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>')
            self._text(x - 11 if left else x + 11, foot, dot.name, "end" if left else "start", "name")

    def ticks(self, xs: Iterable[float], style: str = "", row: int = 0) -> None:
        """Mark moments by short strokes at the bottom, or in a row below the plot where there are rows."""
        start = self._foot + 3 + _ROW_PIXELS * row if self.tick_rows else self._foot - 7
        strokes = "".join(f"M{self._x(x):.1f} {start}v7" for x in xs)
        self._parts.append(f'<path class="tick {style}" d="{strokes}"/>'.replace(' "', '"'))

    def bar(self, centre: float, width: float, start: float, end: float, style: str, hint: str) -> None:
        """Draw an upright piece of a bar from `start` to `end`; `hint` shows under the pointer."""
        left, right = self._x(centre - width / 2), self._x(centre + width / 2)
        top, bottom = self._y(end), self._y(start)
        box = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{max(0.0, bottom - top):.1f}"'
        self._parts.append(f'<rect class="bar {style}" {box}><title>{html.escape(hint)}</title></rect>')

    def svg(self) -> str:
        """Return the drawing as an SVG element."""
        name = html.escape(self.title, quote=True)
        body, rows = "".join(self._parts), self._key_rows()
        least = f"min-width:{_LEAST_SCALE * self.width:.0f}px"
        box = f"0 0 {self.width} {self.height + _KEY_ROW_PIXELS * len(rows)}"
        start = f'<svg viewBox="{box}" style="{least}" role="img" xmlns="http://www.w3.org/2000/svg">'
        return f"{start}<title>{name}</title>{self._grid()}{body}{self._key(rows)}</svg>"

    def _key_rows(self) -> list[list[tuple[float, str, str]]]:
        """Return the rows of the key: for each entry where it starts, its style and its name."""
        rows: list[list[tuple[float, str, str]]] = []
        free = math.inf
        for style, name in self.keys:
            length = _KEY_STROKE_PIXELS + 6 + LETTER_PIXELS * len(name)
            if free + length > self.width - RIGHT:
                rows.append([])
                free = float(LEFT)
            rows[-1].append((free, style, name))
            free += length + _KEY_GAP_PIXELS
        return rows

    def _key(self, rows: Sequence[Sequence[tuple[float, str, str]]]) -> str:
        parts = []
        for index, row in enumerate(rows):
            y = self.height + _KEY_ROW_PIXELS * index + 8
            for x, style, name in row:
                parts.append(f'<path class="line {style}" d="M{x:.1f} {y - 4}h{_KEY_STROKE_PIXELS}"/>')
                parts.append(_text(x + _KEY_STROKE_PIXELS + 6, y, name, "start", "name"))
        return "".join(parts)

    def _grid(self) -> str:
        parts = []
        foot, right = self._foot, self.width - RIGHT
        for value in ticks_of(self.y, round((foot - TOP) / _PIXELS_PER_TICK_Y)):
            y = self._y(value)
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
            parts.append(_text(LEFT - 8, y + 4, f"{value:g}", "end", "scale"))
        parts += self._x_scale(ticks_of(self.x, round((right - LEFT) / _PIXELS_PER_TICK_X)))
        parts.append(f'<path class="axis" d="M{LEFT} {foot}H{right}"/>')
        parts.append(_text(LEFT - 8, TOP - 10, self.y_unit, "end", "scale unit"))
        return "".join(parts)

    def _x_scale(self, values: Sequence[float]) -> list[str]:
        """Return the texts of the x axis, the unit behind the last one, which therefore may take the place of others."""
        parts: list[str] = []
        unit, free = f" {self.x_unit}", float(self.width)
        for value in reversed(values):
            text = f"{value:g}{unit}".rstrip()
            half = LETTER_PIXELS * len(text) / 2
            # A text in the middle of the last tick would be cut off where it is long.
            x = min(self._x(value), self.width - half)
            if x + half <= free:
                parts.append(_text(x, self.height - 12, text, "middle", "scale"))
                unit, free = "", x - half
        return parts[::-1]

    def _text(self, x: float, y: float, text: str, anchor: str, style: str) -> None:
        self._parts.append(_text(x, y, text, anchor, style))

    @property
    def _foot(self) -> int:
        """Height of the x axis in pixels from the top."""
        return self.height - BOTTOM - _ROW_PIXELS * self.tick_rows

    def _x(self, value: float) -> float:
        return LEFT + (self.width - LEFT - RIGHT) * min(1.0, max(0.0, self.x.share(value)))

    def _y(self, value: float) -> float:
        return TOP + (self._foot - TOP) * (1 - min(1.0, max(0.0, self.y.share(value))))


def free_foot(foot: float, taken: Iterable[float]) -> float:
    """Return the nearest height at or below `foot`, in pixels from the top, whose line of text none at `taken` covers."""
    for other in sorted(taken):
        if abs(foot - other) < _LINE_PIXELS:
            foot = other + _LINE_PIXELS
    return foot


def ticks_of(span: Span | LogSpan, about: int) -> list[float]:
    """Return round values within `span`, `about` so many."""
    return nice_ticks(span, about) if isinstance(span, Span) else log_ticks(span, about)


def log_ticks(span: LogSpan, about: int) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten within `span`, or the powers alone where these would be too many."""
    powers = range(math.floor(math.log10(span.low)), math.ceil(math.log10(span.high)) + 1)
    values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    within = [value for value in values if span.low * 0.999 <= value <= span.high * 1.001]
    return within if len(within) <= 1.5 * about else [value for value in within if math.log10(value).is_integer()]


def log_span(values: Iterable[float], *, least: float) -> LogSpan:
    """Return an axis around all values above `least`, from a 1, 2 or 5 times a power of ten to another one."""
    known = [value for value in values if value > least]
    low, high = min(known, default=least), max(known, default=10 * least)
    steps = [factor * 10.0**power for power in range(-6, 10) for factor in (1, 2, 5)]
    below = max(step for step in steps if step <= low / 1.1)
    return LogSpan(below, min(step for step in steps if step >= max(high * 1.1, 5 * below)))


def nice_ticks(span: Span, about: int) -> list[float]:
    """Return round values within `span`, `about` so many: multiples of 1, 2 or 5 times a power of ten."""
    rough = (span.high - span.low) / max(1, about)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough * 0.99)
    first = math.ceil(span.low / step - 1e-9)
    last = math.floor(span.high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def span_above_zero(*series: Iterable[float]) -> Span:
    """Return an axis from 0 to a little above the greatest value of all series; NaN does not count."""
    values = [value for each in series for value in each if not math.isnan(value)]
    return Span(0.0, max(values, default=0.0) * 1.12 or 1.0)


def thinned(count: int, most: int = WIDE) -> slice:
    """Return which of `count` points to draw, so that no more than `most` are: more are not seen."""
    return slice(None, None, max(1, math.ceil(count / most)))


def mean_rates(times: Sequence[float], totals: Sequence[float], period: float) -> list[float]:
    """Return for each time the growth of `totals` per unit of time, without the ripple of what comes once a `period`.

    Totals are averaged over the last `period` and their growth is taken over the last two; the first rate is NaN.
    """
    at, sums = np.asarray(times, np.float64), np.asarray(totals, np.float64)
    smooth = [float(sums[(at > now - period) & (at <= now)].mean()) for now in at]
    centres = [float(at[(at > now - period) & (at <= now)].mean()) for now in at]
    rates = [math.nan] * len(times)
    for end in range(1, len(times)):
        start = min(int(np.searchsorted(at, at[end] - 2 * period)), end - 1)
        rates[end] = (smooth[end] - smooth[start]) / (centres[end] - centres[start])
    return rates


def _text(x: float, y: float, text: str, anchor: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'
