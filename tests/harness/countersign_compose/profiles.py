"""The profiles `slack` and `observability`, each as far as its images are to be had."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import yaml

from countersign_cli.client import Client
from countersign_contracts.event import CORE_SERVICES
from countersign_harness.slack import APP_TOKEN, BOT_TOKEN

from .project import ROOT, Project, ask, require

CHANNEL = "C0APPROVALS"
#: Scraped every ten seconds; rules likewise.
SCRAPED_S = 150


def slack(project: Project, admin: Client) -> None:
    """With tokens in its folder the service connects, and posts what is held."""
    files = {"bot-token": BOT_TOKEN, "app-token": APP_TOKEN, "channels.yaml": f"default: {CHANNEL}\n"}
    for name, text in files.items():
        (project.slack_folder / name).write_text(text)
        (project.slack_folder / name).chmod(0o644)
    project.up("--no-deps", "slack", "fake-slack", profiles=("slack",))  # of all, it would end the further executors
    held = ask(admin, "update_ticket", ticket_id=1, status="closed")
    require(held["state"] == "held", f"a write in prod is held: {held}")
    approval = admin.get("/api/v1/approvals", {"request_id": held["request_id"]})["items"][0]["approval_id"]
    deadline = time.monotonic() + 90
    while approval not in project("logs", "--no-log-prefix", "fake-slack"):
        require(time.monotonic() < deadline, f"approval {approval} is posted in Slack")
        time.sleep(0.3)


def observability(project: Project, replicas: dict[str, int]) -> None:
    """What can be had of the profile runs, and Prometheus scrapes every replica with the product's own rules."""
    had, missing = images(project)
    if missing:
        print(f"    left out, their images cannot be had here: {', '.join(missing)}", flush=True)
    if had:
        project.up("--no-deps", "--no-recreate", *had, profiles=("observability",))
    if "prometheus" in had:
        scrapes(project.prometheus, replicas)


def images(project: Project) -> tuple[list[str], list[str]]:
    """The profile's containers whose images are here or can be pulled, and the images that cannot be."""
    had, missing = [], []
    for name, each in yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].items():
        if "observability" not in each.get("profiles", []):
            continue
        image = each["image"]
        if have(image):
            had.append(name)
        else:
            missing.append(image)
    return had, missing


def have(image: str) -> bool:
    """Whether the image is here, or could be pulled now."""
    return any(_succeeds("docker", *how, image) for how in (("image", "inspect"), ("pull", "--quiet")))


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0


def scrapes(port: int, replicas: dict[str, int]) -> None:
    """Every replica once, each answering, and rules that are evaluated without an error."""
    deadline = time.monotonic() + SCRAPED_S
    while (found := _targets(port)) != replicas:
        require(time.monotonic() < deadline, f"Prometheus finds every replica: {found}, not {replicas}")
        time.sleep(0.5)
    groups = _get(port, "rules")["groups"]
    wrong = [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "err"]
    require(groups and not wrong, f"the rules are evaluated: {wrong}")
    names = {sample["metric"]["service"] for sample in _get(port, "query", query="countersign_ready == 1")["result"]}
    require(names >= set(CORE_SERVICES), f"every service says that it is ready: {sorted(names)}")


def _targets(port: int) -> dict[str, int]:
    try:
        up = _get(port, "query", query='up{job="countersign"} == 1')["result"]
    except OSError:  # it does not listen yet
        return {}
    return dict(Counter(sample["metric"]["service"] for sample in up))


def _get(port: int, what: str, **query: str) -> Any:
    opener = build_opener(ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/api/v1/{what}?{urlencode(query)}", timeout=10) as response:
        return json.loads(response.read())["data"]
