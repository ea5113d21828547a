"""Every panel's and every alert's query gives data on a real Prometheus that scraped the running system.

One system for all: the demonstration's acts are played on it, and then what goes wrong (see `observed`).
"""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from typing import Any

import pytest

from countersign_harness.observed import Observed, observed
from countersign_harness.prometheus import ROOT, WHY_NOT, Prometheus, installed

from .test_rules import ALERTS

DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
#: Of certificates, which this system has none of; tests/e2e/test_tls.py sees their gauge.
WITH_TLS = {"CountersignCertificateOld", "CountersignCertificateExpires"}
#: What stands for Grafana's own: all of the time since the system started.
WINDOW = "10m"


def expression(panel: str) -> str:
    """A panel's query as Grafana would send it."""
    return panel.replace("$__rate_interval", WINDOW).replace("$__range", WINDOW)


def data_behind(alert: str) -> str:
    """An alert's expression, with 0 or 1 in the place of its comparisons: what it compares must be there."""
    outside = re.split(r"(\{[^}]*\})", alert.replace(" offset 10m", ""))
    outside[::2] = [re.sub(r"(==|!=|>=|<=|>|<)(?= )", r"\1 bool", part) for part in outside[::2]]
    return "".join(outside)


def numbers(found: list[Any]) -> list[float]:
    return [value for sample in found if not math.isnan(value := float(sample["value"][1]))]


async def every_query_gives_data(prometheus: Prometheus) -> list[str]:
    """The panels and alerts that have nothing to show."""
    empty = []
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                if not numbers(prometheus.query(expression(target["expr"]))):
                    empty.append(f"{file.stem}: {panel['title']}: {target['expr']}")
    for alert in ALERTS:
        if alert["alert"] not in WITH_TLS and not numbers(prometheus.query(data_behind(alert["expr"]))):
            empty.append(f"{alert['alert']}: {alert['expr']}")
    return empty


@pytest.mark.skipif(not installed(), reason=WHY_NOT)
@pytest.mark.timeout(300)
async def test_every_panel_and_alert_has_data_after_the_demonstration(tmp_path: Path) -> None:
    async with observed(tmp_path) as system:
        await system.act()
        assert await every_query_gives_data(system.prometheus) == []
        await an_exemplar_leads_to_its_action(system)
        what_went_wrong_alerts(system.prometheus)


async def an_exemplar_leads_to_its_action(system: Observed) -> None:
    found = system.prometheus.exemplars("countersign_action_seconds_bucket", system.began, time.time())
    exemplars = [each for series in found for each in series["exemplars"]]
    assert exemplars
    request_id = exemplars[-1]["labels"]["request_id"]
    timeline = system.admin.get("/api/v1/audit/timeline", {"request_id": request_id})
    assert timeline["items"][0]["kind"] == "actions.requested"


def what_went_wrong_alerts(prometheus: Prometheus) -> None:
    """Firing already, or waiting for how long it must last."""
    raised = {sample["metric"]["alertname"] for sample in prometheus.query("ALERTS")}
    assert {"CountersignForgedMessages", "CountersignDeadLetters", "CountersignUnknownOutcomes"} <= raised
    assert not raised & {"CountersignServiceDown", "CountersignServiceNotReady", "CountersignLedgerHasNoWriter"}


def test_the_comparisons_of_an_alert_are_taken_off() -> None:
    given = 'sum(a{b!="c",d=~"e>f"}) > 3 and g{h="i"} == 0'
    assert data_behind(given) == 'sum(a{b!="c",d=~"e>f"}) > bool 3 and g{h="i"} == bool 0'
