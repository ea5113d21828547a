"""Pictures of dashboards as SVG, from numbers alone: what Grafana would show, for pages that have no Grafana."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from panels import Dashboard, Panel

_COLOURS = (
    "#3274a1",
    "#e1812c",
    "#3a923a",
    "#c03d3e",
    "#9372b2",
    "#845b53",
    "#d684bd",
    "#7f7f7f",
    "#a9aa35",
    "#2eabb8",
)
_COLUMN, _HEIGHT, _GAP = 44, 230, 12
_LEFT, _RIGHT, _TOP, _LEGEND_LINE, _LINES = 62, 14, 34, 15, 3
_FONT = "font-family='Helvetica, Arial, sans-serif'"


@dataclass(frozen=True)
class Series:
    """A line: its name, and values over the time of the picture, oldest first; None where there was none."""

    name: str
    values: tuple[float | None, ...]


def dashboard(shown: Dashboard, data: Sequence[Sequence[Series]], seconds: float) -> str:
    """The whole page; `data` has the series of each panel, `seconds` is the time that they span."""
    boxes, x, y = [], 0, 0
    for panel, series in zip(shown.panels, data, strict=True):
        if x + panel.wide > 24:
            x, y = 0, y + 1
        left, top = x * _COLUMN, y * (_HEIGHT + _GAP)
        boxes.append(f"<g transform='translate({left},{top})'>{_panel(panel, series, seconds)}</g>")
        x += panel.wide
    width, height = 24 * _COLUMN, (y + 1) * (_HEIGHT + _GAP)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}'"
        f" {_FONT} font-size='11'><title>{escape(shown.title)}: {escape(shown.about)}</title>"
        f"<rect width='{width}' height='{height}' fill='#f4f5f5'/>{''.join(boxes)}</svg>\n"
    )


def readable(value: float, unit: str) -> str:
    """A value as people read it in its unit."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        if 0 < value < 1:
            return f"{value * 1000:.3g} ms"
        return f"{value:.3g} s" if value < 120 else f"{value / 60:.3g} min"
    if unit == "bytes":
        return f"{value / 2**20:.3g} MiB"
    return f"{value:.3g}{'/s' if unit == 'ops' else ''}"


def _panel(panel: Panel, series: Sequence[Series], seconds: float) -> str:
    width = panel.wide * _COLUMN - _GAP
    inside = _lines(panel, series, width, seconds) if panel.kind == "timeseries" else _bars(panel, series, width)
    return (
        f"<rect width='{width}' height='{_HEIGHT}' rx='3' fill='#fff' stroke='#d8d9da'/>"
        f"<text x='10' y='20' font-weight='bold' fill='#333'>{escape(panel.title)}"
        f"<title>{escape(panel.about)}</title></text>{inside}"
    )


def _lines(panel: Panel, series: Sequence[Series], width: int, seconds: float) -> str:
    bottom = _HEIGHT - 24 - _LEGEND_LINE * _LINES
    stacked = _stacked(series) if panel.stacked else [tuple(each.values) for each in series]
    top = max((v for values in stacked for v in values if v is not None), default=0) * 1.1 or 1.0
    right = width - _RIGHT
    parts = []
    for tick in range(5):
        y = bottom - (bottom - _TOP) * tick / 4
        parts.append(f"<line x1='{_LEFT}' x2='{right}' y1='{y:.1f}' y2='{y:.1f}' stroke='#e5e6e6'/>")
        label = readable(top * tick / 4, panel.unit)
        parts.append(f"<text x='{_LEFT - 6}' y='{y + 4:.1f}' text-anchor='end' fill='#666'>{label}</text>")
    for place, text in ((_LEFT, f"{seconds:.0f} s ago"), (right, "now")):
        anchor = "start" if place == _LEFT else "end"
        parts.append(f"<text x='{place}' y='{bottom + 14}' text-anchor='{anchor}' fill='#666'>{text}</text>")
    for number, values in enumerate(stacked):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [
            f"{_LEFT + (right - _LEFT) * n / max(len(values) - 1, 1):.1f},{bottom - (bottom - _TOP) * value / top:.1f}"
            for n, value in enumerate(values)
            if value is not None
        ]
        if points:
            parts.append(f"<polyline points='{' '.join(points)}' fill='none' stroke='{colour}' stroke-width='1.5'/>")
    return "".join(parts) + _legend(series, bottom + 22, width)


def _stacked(series: Sequence[Series]) -> list[tuple[float | None, ...]]:
    """Each on those before it."""
    below: list[float] = [0.0] * max((len(each.values) for each in series), default=0)
    found: list[tuple[float | None, ...]] = []
    for each in series:
        below = [under + (value or 0.0) for under, value in zip(below, each.values, strict=True)]
        found.append(tuple(below))
    return found


def _legend(series: Sequence[Series], y: int, width: int) -> str:
    parts, x, line = [], 10, 0
    for number, each in enumerate(series):
        name = each.name if len(each.name) <= 34 else each.name[:33] + "…"
        long = 18 + round(len(name) * 5.6)
        if x + long > width - 10 and x > 10:
            x, line = 10, line + 1
        if line == _LINES:
            break
        at = y + line * _LEGEND_LINE
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(f"<rect x='{x}' y='{at}' width='9' height='9' fill='{colour}'/>")
        parts.append(f"<text x='{x + 13}' y='{at + 9}' fill='#444'>{escape(name)}</text>")
        x += long + 8
    return "".join(parts)


def _bars(panel: Panel, series: Sequence[Series], width: int) -> str:
    """The latest values, each as a bar with its number."""
    latest = [(each.name, next((v for v in reversed(each.values) if v is not None), 0.0)) for each in series][:8]
    most = max((value for _, value in latest), default=0) or 1.0
    high = min(26, (_HEIGHT - 44) // max(len(latest), 1))
    parts = []
    for number, (name, value) in enumerate(latest):
        y = 36 + number * high
        long = (width - 260) * value / most
        parts.append(f"<text x='10' y='{y + 13}' fill='#444'>{escape(name)}</text>")
        parts.append(
            f"<rect x='150' y='{y}' width='{max(long, 1):.1f}' height='{high - 8}' fill='{_COLOURS[number % 10]}'/>"
        )
        parts.append(f"<text x='{158 + max(long, 1):.1f}' y='{y + 13}'>{readable(value, panel.unit)}</text>")
    return "".join(parts)
