"""Metrics have few and bounded labels: never an agent, a session, a request or any other identifier.

A time series for every request takes the monitoring down, and puts identities where no policy guards them.
"""

import ast
import re

import pytest

from workspace import Member

MAKERS = {"counter", "gauge", "histogram", "summary", "enum", "info"}
UNBOUNDED = re.compile(r"(^|_)(agent|session|request|principal|person|user|digest|subject)s?(_|$)|(^|_)u?u?ids?$")


def label_faults(text: str) -> list[str]:
    """The labels in a module that are unbounded, or cannot be read off the code."""
    faults = []
    for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if name == "labels":
            labels = [keyword.arg or "**" for keyword in call.keywords]
        elif name.lower() in MAKERS and call.args and isinstance(call.args[0], ast.Constant):
            labels = declared_labels(call)
        else:
            continue
        faults += [f"line {call.lineno}: {label}" for label in labels if label == "**" or UNBOUNDED.search(label)]
    return faults


def declared_labels(call: ast.Call) -> list[str]:
    """The label names a metric is made with; `**` for what is not written out as text on the spot."""
    given = [keyword.value for keyword in call.keywords if keyword.arg in {"labels", "labelnames"}] + call.args[2:3]
    written = [node.elts if isinstance(node, ast.List | ast.Tuple) else [node] for node in given]
    return [
        node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "**"
        for nodes in written
        for node in nodes
    ]


def test_no_label_names_an_identifier(member: Member) -> None:
    found = [f"{module}, {fault}" for module in member.modules() for fault in label_faults(module.read_text("utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        'Counter("actions", "Actions", ["tool", "agent"])',
        'metrics.counter("actions", "Actions", labels=("request_id",))',
        'prometheus_client.Histogram("seconds", "Time", labelnames=["session"])',
        'metrics.gauge("open", "Open", ["approval_id"])',
        'metrics.gauge("open", "Open", LABELS)',
        "metric.labels(agent_id=agent).inc()",
        "metric.labels(**labels).inc()",
    ],
)
def test_an_unbounded_or_hidden_label_is_seen(text: str) -> None:
    assert label_faults(text)


@pytest.mark.parametrize(
    "text",
    [
        'metrics.counter("requests_refused", "Requests refused", ["code", "valid"])',
        'metrics.histogram("seconds", "Time", ("consumer",), BUCKETS)',
        'metrics.counter("actions", "Actions")',
        "Counter(name, help, labels, registry=self.registry)",
        "metric.labels(consumer).inc()",
    ],
)
def test_bounded_labels_are_welcome(text: str) -> None:
    assert label_faults(text) == []
