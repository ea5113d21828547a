"""The alert rules: right by Prometheus' own tool, each with a unit test of its own and a runbook."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from countersign_contracts.event import CORE_SERVICES
from countersign_harness.prometheus import PROMETHEUS, ROOT, WHY_NOT, installed

RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
UNIT_TESTS = PROMETHEUS / "tests" / "alerts.yml"


def alerts() -> list[dict[str, Any]]:
    found = []
    for file in RULES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            found += [rule for rule in group["rules"] if "alert" in rule]
    return found


ALERTS = alerts()


@pytest.mark.skipif(not installed(), reason=WHY_NOT)
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", str(PROMETHEUS / "prometheus.yml")),
        ("check", "rules", *map(str, RULES)),
        ("test", "rules", str(UNIT_TESTS)),
    ],
    ids=" ".join,
)
def test_promtool_finds_nothing_wrong(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_has_a_unit_test_and_a_runbook(alert: dict[str, Any]) -> None:
    assert re.fullmatch(r"Countersign[A-Z]\w+", alert["alert"])
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["alert"] in UNIT_TESTS.read_text(), "no unit test sees it fire"
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    text = (ROOT / page).read_text()
    parts = {heading.lower().replace(" ", "-"): heading for heading in re.findall(r"^## (.+)$", text, re.MULTILINE)}
    assert anchor in parts, f"{page} has no part {anchor}"
    part = text.partition(f"## {parts[anchor]}\n")[2].partition("\n## ")[0]
    short = re.sub(r"(Fast|Slowly)$", "", alert["alert"])
    assert short in part, f"{page}#{anchor} does not say what {alert['alert']} is"


def test_no_runbook_is_of_no_alert() -> None:
    named = {alert["annotations"]["runbook"].partition("#")[2] for alert in ALERTS}
    headings = re.findall(r"^## (.+)$", (ROOT / "docs/operate/runbooks.md").read_text(), re.MULTILINE)
    assert {heading.lower().replace(" ", "-") for heading in headings} == named


def test_what_the_rules_ask_for_exists() -> None:
    listed = set(re.findall(r"`(countersign_\w+)`", (ROOT / "docs/reference/metrics.md").read_text()))
    texts = [file.read_text() for file in RULES] + [
        file.read_text() for file in Path(ROOT / "deploy/grafana/dashboards").glob("*.json")
    ]
    asked = {name for text in texts for name in re.findall(r"\b(countersign_\w+)", text)}
    unknown = {name for name in asked if re.sub(r"_(bucket|sum|count)$", "", name) not in listed and name not in listed}
    assert not unknown, f"no service has these: {sorted(unknown)}"


def test_prometheus_finds_every_service_of_the_compose_file() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    (job,) = (job for job in config["scrape_configs"] if job["job_name"] == "countersign")
    found = {name: each["port"] for each in job["dns_sd_configs"] for name in each["names"]}
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    served = {name for name, each in compose.items() if each.get("command") == ["serve", name]}
    assert set(found) == served == {*CORE_SERVICES, "slack"}
    for service, port in found.items():
        assert port == int(compose[service]["environment"]["COUNTERSIGN_HEALTH_PORT"])
        published = [each.rpartition(":")[2] for each in compose[service].get("ports", [])]
        assert str(port) not in published, "metrics are for those inside"


def test_the_profile_mounts_what_is_there_and_the_dashboards_are_provisioned() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    watching = {name: each for name, each in compose.items() if "observability" in each.get("profiles", [])}
    assert set(watching) == {"prometheus", "grafana", "otel-collector", "tempo", "nats-exporter"}
    for name, each in watching.items():
        assert each["read_only"] and each["cap_drop"] == ["ALL"], name
        for volume in each.get("volumes", []):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (ROOT / source).exists(), f"{name} mounts {source}"
        assert all(port.startswith("127.0.0.1:") for port in each.get("ports", [])), f"{name} is on loopback alone"
    provider = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/countersign.yml").read_text())
    mounted = [volume.split(":")[1] for volume in watching["grafana"]["volumes"]]
    assert provider["providers"][0]["options"]["path"] in mounted
