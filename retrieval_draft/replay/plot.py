"""Plots as SVG text: panels with axes, lines, bars and dots, drawn by hand so that a page needs nothing else.

Colours are classes (`c0`, `c1`, ...), so that the page's style can give them for light and dark. Every
mark has a title, which browsers show when pointed at.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 340, 250
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 26, 44
PLOT_WIDTH = WIDTH - LEFT - RIGHT
TICK_PIXELS = 6
"""Of a character of a tick's label."""
COLOURS = 10


@dataclass(frozen=True, slots=True)
class Point:
    """A mark, by data; `weight` in 0..1 scales its area, `said` is shown when it is pointed at."""

    x: float
    y: float
    said: str = ""
    weight: float = 0.0


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one colour: joined by a line, or as columns of `column` pixels from the axis up."""

    name: str
    colour: int
    points: Sequence[Point]
    is_dashed: bool = False
    column: float = 0.0


@dataclass(frozen=True, slots=True)
class Scale:
    """From data to pixels; `ticks` are (value, label)."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    is_log: bool = False

    def at(self, value: float, first: float, last: float) -> float:
        """The pixel of a value, between those of low and high."""
        low, high, v = self.low, self.high, value
        if self.is_log:
            low, high, v = math.log(low), math.log(high), math.log(max(value, self.low / 4))
        span = (high - low) or 1.0
        return first + (last - first) * (v - low) / span


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes. `bars` are grey columns behind the series, heights 0..1 of the panel."""

    title: str
    x_label: str
    y_label: str
    x: Scale
    y: Scale
    series: Sequence[Series]
    bars: Sequence[Point] = ()
    diagonal: bool = False
    rule_at: float | None = None
    """A horizontal rule, as 1.0 for plain decoding."""
    notes: Sequence[str] = field(default_factory=tuple)


def linear(low: float, high: float) -> Scale:
    """Ticks at 1, 2 or 5 times a power of ten; grows to whole ticks."""
    span = max(high - low, 1e-9)
    step = 10 ** math.floor(math.log10(span / 4))
    step = next(step * m for m in (1, 2, 5, 10) if span / (step * m) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = [(i * step, f"{i * step:.{digits}f}") for i in range(first, last + 1)]
    return Scale(first * step, last * step, ticks)


def percent(high: float) -> Scale:
    """From 0 to at least `high`, in percent."""
    scale = linear(0.0, max(high, 0.01))
    digits = 1 if scale.ticks[1][0] < 0.01 else 0
    return Scale(scale.low, scale.high, [(v, f"{v:.{digits}%}") for v, _ in scale.ticks])


def at_values(values: Sequence[float]) -> Scale:
    """Logarithmic, with a tick at each of these ascending values above 0."""
    low, high = values[0], values[-1]
    if low == high:
        low, high = low / 2, high * 2
    return Scale(low, high, [(value, f"{value:g}") for value in values], is_log=True)


def evenly(names: Sequence[str]) -> Scale:
    """Categories at 0, 1, 2, ..."""
    ticks = [(float(i), name) for i, name in enumerate(names)]
    return Scale(-0.5, len(names) - 0.5, ticks)


def panel_svg(panel: Panel) -> str:
    """The panel as one <svg>."""
    x0, x1, y0, y1 = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(panel.title)}">',
        f'<text class="title" x="{x0}" y="14">{escape(_short(panel.title))}</text>',
    ]
    for value, name in panel.y.ticks:
        y = panel.y.at(value, y0, y1)
        parts.append(f'<line class="grid" x1="{x0}" x2="{x1}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{x0 - 6}" y="{y + 3.5:.1f}" text-anchor="end">{name}</text>'
        )
    parts += _columns(panel, x0, x1, y0, y1)
    # Names too long for one line stand on two in turn.
    lines = 1 + (TICK_PIXELS * sum(len(name) + 1 for _, name in panel.x.ticks) > PLOT_WIDTH)
    for i, (value, name) in enumerate(panel.x.ticks):
        x, y = panel.x.at(value, x0, x1), y0 + 15 + 11 * (i % lines)
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{y}" text-anchor="middle">{escape(name)}</text>'
        )
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{y0}" y2="{y0 + 4}"/>')
    parts.append(f'<line class="axis" x1="{x0}" x2="{x1}" y1="{y0}" y2="{y0}"/>')
    if panel.diagonal:
        parts.append(f'<line class="ideal" x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}"/>')
    if panel.rule_at is not None:
        y = panel.y.at(panel.rule_at, y0, y1)
        parts.append(f'<line class="ideal" x1="{x0}" x2="{x1}" y1="{y:.1f}" y2="{y:.1f}"/>')
    for series in panel.series:
        parts += _series(panel, series, (x0, x1, y0, y1))
    for i, note in enumerate(panel.notes):
        parts.append(
            f'<text class="note" x="{x0 + 8}" y="{y1 + 14 + 14 * i}">{escape(note)}</text>'
        )
    middle = (x0 + x1) / 2
    parts.append(
        f'<text class="label" x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">'
        f"{escape(panel.x_label)}</text>"
    )
    height = (y0 + y1) / 2
    parts.append(
        f'<text class="label" transform="translate(11 {height}) rotate(-90)" text-anchor="middle">'
        f"{escape(panel.y_label)}</text></svg>"
    )
    return "".join(parts)


def _columns(panel: Panel, x0: float, x1: float, y0: float, y1: float) -> list[str]:
    if not panel.bars:
        return []
    width = (x1 - x0) / len(panel.x.ticks) * 0.7
    parts = []
    for bar in panel.bars:
        x, height = panel.x.at(bar.x, x0, x1), bar.y * (y0 - y1)
        parts.append(
            f'<rect class="bar" x="{x - width / 2:.1f}" y="{y0 - height:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}"><title>{escape(bar.said)}</title></rect>'
        )
    return parts


def _series(panel: Panel, series: Series, box: tuple[float, float, float, float]) -> list[str]:
    x0, x1, y0, y1 = box
    colour = f"c{series.colour % COLOURS}"
    places = [(panel.x.at(p.x, x0, x1), panel.y.at(p.y, y0, y1), p) for p in series.points]
    parts = []
    if series.column:
        return [_column(series, place, y0) for place in places]
    if len(places) > 1:
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
        dashes = " dashed" if series.is_dashed else ""
        parts.append(f'<polyline class="line {colour}{dashes}" points="{line}"/>')
    for x, y, point in places:
        radius = 2.8 + 7 * math.sqrt(point.weight)
        said = escape(f"{series.name}: {point.said}")
        hollow = " hollow" if series.is_dashed else ""
        parts.append(
            f'<circle class="dot {colour}{hollow}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">'
            f"<title>{said}</title></circle>"
        )
    return parts


def _column(series: Series, place: tuple[float, float, Point], y0: float) -> str:
    x, y, point = place
    width = series.column
    return (
        f'<rect class="column c{series.colour % COLOURS}" x="{x - width / 2:.1f}" y="{y:.1f}" '
        f'width="{width:.1f}" height="{max(y0 - y, 0):.1f}">'
        f"<title>{escape(f'{series.name}: {point.said}')}</title></rect>"
    )


def legend(entries: Sequence[tuple[str, int, bool]]) -> str:
    """Of (name, colour, dashed), as HTML above a figure; a colour below 0 is grey."""
    items = []
    for name, colour, is_dashed in entries:
        dashes = " dashed" if is_dashed else ""
        kind = f"c{colour % COLOURS}" if colour >= 0 else "grey"
        items.append(
            f'<span class="key"><svg viewBox="0 0 26 10" class="swatch">'
            f'<line class="line {kind}{dashes}" x1="1" x2="25" y1="5" y2="5"/>'
            f"</svg>{escape(name)}</span>"
        )
    return f'<div class="legend">{"".join(items)}</div>'


def range_svg(rows: Sequence[tuple[str, int, float, float, float]], unit: str) -> str:
    """Rows of (name, colour, low, middle, high), all above 0, as ranges on a logarithmic axis."""
    values = [value for _, _, *three in rows for value in three]
    low, high = min(values), max(values)
    decades = [1, 2, 5]
    ticks = [
        d * 10.0**e
        for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for d in decades
    ]
    first = max([t for t in ticks if t <= low], default=low)
    last = min([t for t in ticks if t >= high], default=high)
    scale = at_values([t for t in ticks if first <= t <= last] if first < last else [first])
    width, left, row = 720, 150, 20
    height = row * len(rows) + 44
    parts = [f'<svg viewBox="0 0 {width} {height}" class="wide" role="img" aria-label="{unit}">']
    for value, name in scale.ticks:
        x = scale.at(value, left, width - 16)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{height - 38}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{height - 24}" text-anchor="middle">{name}</text>'
        )
    for i, (name, colour, lowest, middle, highest) in enumerate(rows):
        y = 6 + row * (i + 0.5)
        a, m, b = (scale.at(v, left, width - 16) for v in (lowest, middle, highest))
        said = escape(f"{name}: p50 {lowest:.0f}, mean {middle:.0f}, p99 {highest:.0f} {unit}")
        parts.append(
            f'<text class="tick" x="{left - 10}" y="{y + 3.5:.1f}" text-anchor="end">'
            f"{escape(name)}</text>"
            f'<g><title>{said}</title><line class="range c{colour % COLOURS}" x1="{a:.1f}" '
            f'x2="{b:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<circle class="dot c{colour % COLOURS}" cx="{m:.1f}" cy="{y:.1f}" r="4.5"/></g>'
        )
    parts.append(
        f'<text class="label" x="{(left + width - 16) / 2}" y="{height - 6}" '
        f'text-anchor="middle">{escape(unit)}</text></svg>'
    )
    return "".join(parts)


def _short(title: str) -> str:
    return title if len(title) <= 44 else title[:43] + "…"
