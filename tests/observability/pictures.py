"""`make pictures`: draws the dashboards' panels from a Prometheus that scraped a running system, for docs/operate.

The pictures differ a little each time, as the run does; they are committed now and then, and compared with nothing.
"""

from __future__ import annotations

import asyncio
import math
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from countersign_harness.observed import observed
from countersign_harness.prometheus import ROOT, WHY_NOT, Prometheus, installed
from dashboards import DASHBOARDS
from draw_panels import Series, dashboard
from panels import Panel, Query

PICTURES = ROOT / "docs" / "operate" / "pictures"
STEPS = 120
WINDOW = "10s"


def main() -> None:
    """Run, look, draw."""
    if not installed():
        sys.exit(f"pictures: {WHY_NOT}")
    with tempfile.TemporaryDirectory(prefix="countersign-pictures-") as folder:
        asyncio.run(_draw(Path(folder)))


async def _draw(folder: Path) -> None:
    async with observed(folder) as system:
        await system.act()
        start, end = system.began, time.time()
        PICTURES.mkdir(exist_ok=True)
        for each in DASHBOARDS:
            data = [_series(system.prometheus, panel, start, end) for panel in each.panels]
            (PICTURES / f"{each.name}.svg").write_text(dashboard(each, data, end - start))
            print(f"docs/operate/pictures/{each.name}.svg")


def _series(prometheus: Prometheus, panel: Panel, start: float, end: float) -> list[Series]:
    step = (end - start) / STEPS
    found = []
    for query in panel.queries:
        expr = query.expr.replace("$__rate_interval", WINDOW).replace("$__range", f"{end - start:.0f}s")
        for series in prometheus.query_range(expr, start, end, step):
            values = {round((at - start) / step): float(value) for at, value in series["values"]}
            points = tuple(
                value if (value := values.get(n)) is not None and math.isfinite(value) else None
                for n in range(STEPS + 1)
            )
            if any(point is not None for point in points):
                found.append(Series(_name(query, series["metric"]), points))
    # most first: what is nothing all the time comes last, and may miss the legend
    return sorted(found, key=lambda each: -sum(point or 0.0 for point in each.values))


def _name(query: Query, labels: Mapping[str, str]) -> str:
    name = query.legend
    for label, value in labels.items():
        name = name.replace(f"{{{{{label}}}}}", value)
    return name


if __name__ == "__main__":
    main()
