"""A real Prometheus that scrapes a running system with the product's own rules; where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import yaml

from .ports import free_run

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "deploy" / "prometheus"
WHY_NOT = "needs `prometheus` and `promtool` (Debian's package `prometheus`), which are not installed here"


def installed() -> bool:
    """Whether this machine has the programs."""
    return bool(shutil.which("prometheus") and shutil.which("promtool"))


class Prometheus:
    """Started on enter, once it answers; `targets` are the services' ports on loopback."""

    def __init__(self, folder: Path, targets: Mapping[str, int], every: str = "1s") -> None:
        self._folder = folder
        self._targets = targets
        self._every = every
        self._url = f"http://127.0.0.1:{free_run(1)}"
        self._process: subprocess.Popen[bytes] | None = None
        self._opener = build_opener(ProxyHandler({}))

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(self._config()))
        log = (self._folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address={self._url.removeprefix('http://')}",
                "--enable-feature=exemplar-storage",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=log,
        )
        log.close()
        deadline = time.monotonic() + 60
        while not self._scrapes():
            assert self._process.poll() is None, (self._folder / "prometheus.log").read_text()
            assert time.monotonic() < deadline, "Prometheus does not scrape every service"
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(20)

    def _config(self) -> dict[str, Any]:
        """The product's own configuration, with these targets and this interval in it."""
        config: dict[str, Any] = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": self._every, "evaluation_interval": self._every}
        config["rule_files"] = [str(PROMETHEUS / "rules" / "*.yml")]
        jobs = [job for job in config["scrape_configs"] if job["job_name"] == "countersign"]
        for job in jobs:
            del job["dns_sd_configs"], job["relabel_configs"]
            job["static_configs"] = [
                {"targets": [f"127.0.0.1:{port}"], "labels": {"service": name}} for name, port in self._targets.items()
            ]
        config["scrape_configs"] = jobs
        return config

    def _scrapes(self) -> bool:
        try:
            return len(self.query('up{job="countersign"} == 1')) == len(self._targets)
        except (URLError, ConnectionError):
            return False

    def query(self, expr: str) -> list[Any]:
        """The samples of an expression now; raises with what Prometheus says of one that is wrong."""
        found: list[Any] = self._get("query", {"query": expr})["result"]
        return found

    def query_range(self, expr: str, start: float, end: float, step: float) -> list[Any]:
        """Its series between two times."""
        query = {"query": expr, "start": start, "end": end, "step": step}
        found: list[Any] = self._get("query_range", query)["result"]
        return found

    def exemplars(self, expr: str, start: float, end: float) -> list[Any]:
        """The exemplars of the series in an expression."""
        found: list[Any] = self._get("query_exemplars", {"query": expr, "start": start, "end": end})
        return found

    def _get(self, what: str, query: Mapping[str, Any]) -> Any:
        with self._opener.open(f"{self._url}/api/v1/{what}?{urlencode(query)}", timeout=30) as response:
            answer = json.loads(response.read())
        assert answer["status"] == "success", answer
        return answer["data"]
