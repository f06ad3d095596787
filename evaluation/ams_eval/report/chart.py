"""Plots as inline SVG whose colours are CSS classes of the page, so that they follow its light and dark dress."""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 760, 46, 14, 26, 30
"""Pixels of the drawing: its width and the margins around the plot."""
_PIXELS_PER_TICK_X, _PIXELS_PER_TICK_Y = 90, 42


class Span(NamedTuple):
    """Range of an axis."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Return where `value` lies, 0 at `low` to 1 at `high`."""
        return (value - self.low) / (self.high - self.low)


@dataclass(kw_only=True)
class Chart:
    """A plot under construction: the axes first, then what is drawn over them, in the order of the calls."""

    title: str
    """Read aloud to those who cannot see."""
    x: Span
    y: Span
    y_unit: str = ""
    x_unit: str = "s"
    height: int = 220
    _parts: list[str] = field(default_factory=list)

    def band(self, start: float, end: float, name: str, *, shaded: bool) -> None:
        """Mark a stretch of the x axis by its name, and shade it."""
        left, right = self._x(start), self._x(end)
        if shaded:
            height = self.height - TOP - BOTTOM
            self._parts.append(f'<rect class="band" x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" height="{height}"/>')
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
        self._parts.append(f'<path class="level {style}" d="M{LEFT} {height:.1f}H{WIDTH - RIGHT}"/>')
        self._text(WIDTH - RIGHT - 4, height - 5, name, "end", f"note {style}")

    def ticks(self, xs: Iterable[float]) -> None:
        """Mark moments by short strokes at the bottom."""
        foot = self.height - BOTTOM
        strokes = "".join(f"M{self._x(x):.1f} {foot}v-7" for x in xs)
        self._parts.append(f'<path class="tick" d="{strokes}"/>')

    def bar(self, centre: float, width: float, start: float, end: float, style: str, hint: str) -> None:
        """Draw an upright piece of a bar from `start` to `end`; `hint` shows under the pointer."""
        left, right = self._x(centre - width / 2), self._x(centre + width / 2)
        top, bottom = self._y(end), self._y(start)
        box = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{max(0.0, bottom - top):.1f}"'
        self._parts.append(f'<rect class="bar {style}" {box}><title>{html.escape(hint)}</title></rect>')

    def svg(self) -> str:
        """Return the drawing as an SVG element."""
        name = html.escape(self.title, quote=True)
        body = "".join(self._parts)
        start = f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{name}" xmlns="http://www.w3.org/2000/svg">'
        return f"{start}<title>{name}</title>{self._grid()}{body}</svg>"

    def _grid(self) -> str:
        parts = []
        foot, right = self.height - BOTTOM, WIDTH - RIGHT
        for value in nice_ticks(self.y, round((foot - TOP) / _PIXELS_PER_TICK_Y)):
            y = self._y(value)
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
            parts.append(_text(LEFT - 8, y + 4, f"{value:g}", "end", "scale"))
        steps = nice_ticks(self.x, round((right - LEFT) / _PIXELS_PER_TICK_X))
        parts.extend(_text(self._x(value), foot + 18, f"{value:g}", "middle", "scale") for value in steps)
        parts.append(f'<path class="axis" d="M{LEFT} {foot}H{right}"/>')
        parts.append(_text(right, foot + 18, self.x_unit, "end", "scale unit"))
        parts.append(_text(LEFT - 8, TOP - 10, self.y_unit, "end", "scale unit"))
        return "".join(parts)

    def _text(self, x: float, y: float, text: str, anchor: str, style: str) -> None:
        self._parts.append(_text(x, y, text, anchor, style))

    def _x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, self.x.share(value)))

    def _y(self, value: float) -> float:
        return TOP + (self.height - TOP - BOTTOM) * (1 - min(1.0, max(0.0, self.y.share(value))))


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


def rolling_mean(times: Sequence[float], totals: Sequence[float], window: float) -> list[float]:
    """Return for each time the mean growth per unit of time of `totals` over the `window` before it; the first is NaN."""
    rates = [math.nan]
    starts = np.searchsorted(np.asarray(times), np.asarray(times) - window, side="left")
    for end in range(1, len(times)):
        start = min(int(starts[end]), end - 1)
        rates.append((totals[end] - totals[start]) / (times[end] - times[start]))
    return rates[: len(times)]


def _text(x: float, y: float, text: str, anchor: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'
