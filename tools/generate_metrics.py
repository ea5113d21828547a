"""The page of metrics, read off the services themselves: each is built, with keys made up for it, and never started."""

import importlib
import tempfile
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from countersign_chassis import Service
from countersign_cli.bootstrap import Layout, prepare_material, service_settings
from countersign_contracts.event import SERVICES
from generate_markdown import code, codes, page, table

_HEAD = ("name", "type", "labels", "unit", "meaning")
_UNITS = ("seconds", "bytes")
Row = tuple[str, str, str, str, str]


def metrics() -> str:
    """The page."""
    found = {service.name: _rows(service) for service in _services()}
    everywhere = [row for row in found[SERVICES[0]] if all(row in rows for rows in found.values())]
    parts = [
        "Each service answers `/metrics` on its health port, in the Prometheus text format. Beside its own metrics"
        " stand those of its process (`process_…`, `python_info`). A histogram has the series `_bucket`, `_sum` and"
        " `_count`. No label ever names an agent, a session or a request.",
        "## Every service",
        table(_HEAD, everywhere),
    ]
    for service, rows in found.items():
        own = [row for row in rows if row not in everywhere]
        parts += [f"## {service}", table(_HEAD, own) if own else "Nothing of its own."]
    return page("Metrics", *parts)


def _services() -> list[Service]:
    with tempfile.TemporaryDirectory(prefix="countersign-generate-") as folder:
        layout = Layout(Path(folder))
        prepare_material(layout, nats_host="127.0.0.1", nats_port=-1)
        for name, text in (("bot-token", "xoxb-0"), ("app-token", "xapp-0"), ("channels.yaml", "default: C0")):
            (layout.slack / name).write_text(text)  # without them there is no Slack
        return [_build(service, layout) for service in SERVICES]


def _build(service: str, layout: Layout) -> Service:
    settings = importlib.import_module(f"countersign_{service}.settings").Settings
    build = importlib.import_module(f"countersign_{service}.app").build
    # nothing connects before the start, so these addresses are never used
    known = service_settings(service, layout, nats_url="nats://127.0.0.1", postgres_dsn="postgresql://127.0.0.1")
    built: Service = build(settings(**known, log_level="error"))
    return built


def _rows(service: Service) -> list[Row]:
    # what a collector's labels are is told by nothing public as long as it has no samples
    collectors = [c for c in service.metrics.registry._collector_to_names if isinstance(c, MetricWrapperBase)]
    return sorted(_row(collector) for collector in collectors)


def _row(collector: MetricWrapperBase) -> Row:
    (metric,) = collector.describe()
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    unit = metric.name.rpartition("_")[2]
    return (
        code(name),
        metric.type,
        codes(collector._labelnames),
        unit if unit in _UNITS else "",
        metric.documentation,
    )
