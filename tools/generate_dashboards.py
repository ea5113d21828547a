"""Grafana's JSON of the dashboards in `dashboards`, the same for the same data: written by `make docs`.

Grafana 11 reads it (schema 39). Each panel's identity is its place, so that a panel that moves is another to Grafana.
"""

import json
from typing import Any

from dashboards import DASHBOARDS
from panels import Dashboard, Panel, Query

_SOURCE = {"type": "prometheus", "uid": "${source}"}
_ROW = 24
_HEIGHT = 8
#: Where the links to actions lead; a box on every dashboard changes it.
GATEWAY = "http://127.0.0.1:8001"


def dashboards() -> dict[str, str]:
    """The files, by name."""
    return {
        f"{each.name}.json": json.dumps(_dashboard(each), indent=2, ensure_ascii=False) + "\n" for each in DASHBOARDS
    }


def _dashboard(dashboard: Dashboard) -> dict[str, Any]:
    panels, x, y = [], 0, 0
    for number, panel in enumerate(dashboard.panels, 1):
        if x + panel.wide > _ROW:
            x, y = 0, y + _HEIGHT
        panels.append(_panel(panel, number, x, y))
        x += panel.wide
    return {
        "uid": f"countersign-{dashboard.name}",
        "title": f"Countersign: {dashboard.title}",
        "description": dashboard.about,
        "tags": ["countersign"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "links": [{"type": "dashboards", "title": "Countersign", "tags": ["countersign"], "keepTime": True}],
        "templating": {
            "list": [
                {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 2},
                {
                    "name": "gateway",
                    "label": "Gateway",
                    "type": "textbox",
                    "query": GATEWAY,
                    "current": {"text": GATEWAY, "value": GATEWAY},
                },
            ]
        },
        "panels": panels,
    }


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 25 if panel.stacked else 5,
            "stacking": {"mode": "normal" if panel.stacked else "none"},
            "showPoints": "never",
        }
    if panel.actions is not None:
        url = f"${{gateway}}/api/v1/actions?{panel.actions}"
        defaults["links"] = [{"title": "The actions behind it", "url": url, "targetBlank": True}]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.wide, "h": _HEIGHT},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": [_target(query, panel, place) for place, query in enumerate(panel.queries)],
    }


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    shown = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    return shown | ({"orientation": "horizontal", "displayMode": "gradient"} if panel.kind == "bargauge" else {})


def _target(query: Query, panel: Panel, place: int) -> dict[str, Any]:
    target: dict[str, Any] = {
        "refId": chr(ord("A") + place),
        "datasource": _SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "range": panel.kind == "timeseries",
        "instant": panel.kind != "timeseries",
    }
    return target | ({"exemplar": True} if query.exemplars else {})
