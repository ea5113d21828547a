"""Writes tests/deploy/kubernetes-1.33.json: the schemas of what deploy/kubernetes has, and of no more.

By hand, with the package `kubernetes-validate` from PyPI unpacked in a folder, which is its argument: the whole is a
hundred megabytes and no dependency. They are Kubernetes' own (Apache License 2.0), strict, without the descriptions.
"""

import json
import sys
from pathlib import Path
from typing import Any

from workspace import ROOT

VERSION = "1.33"
FILE = ROOT / "tests" / "deploy" / f"kubernetes-{VERSION}.json"
KINDS = {
    "ConfigMap": "configmap-v1",
    "Deployment": "deployment-apps-v1",
    "Job": "job-batch-v1",
    "Namespace": "namespace-v1",
    "NetworkPolicy": "networkpolicy-networking-v1",
    "PodDisruptionBudget": "poddisruptionbudget-policy-v1",
    "Service": "service-v1",
    "ServiceAccount": "serviceaccount-v1",
    "StatefulSet": "statefulset-apps-v1",
}


def text(package: Path) -> str:
    """The whole file: a line for each schema."""
    folder = package / "kubernetes_validate" / "kubernetes-json-schema" / f"v{VERSION}.0-local-strict"
    known = json.loads((folder / "_definitions.json").read_text())["$defs"]
    kinds = {kind: _short(json.loads((folder / f"{file}.json").read_text())) for kind, file in KINDS.items()}
    defs: dict[str, Any] = {}
    wanted = _named(kinds)
    while wanted:
        name = wanted.pop()
        defs[name] = _short(known[name])
        wanted |= _named(defs[name]) - set(defs)
    return f'{{"kinds": {_lines(kinds)},\n"$defs": {_lines(defs)}}}\n'


def _short(schema: Any) -> Any:
    """Without what is for people alone, and with references into this file."""
    if isinstance(schema, list):
        return [_short(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {}
    for key, value in schema.items():
        if (key == "description" and isinstance(value, str)) or key.startswith("x-kubernetes"):
            continue
        found[key] = f"#/$defs/{_name(value)}" if key == "$ref" and isinstance(value, str) else _short(value)
    return found


def _named(schema: Any) -> set[str]:
    """The definitions that a schema refers to."""
    if isinstance(schema, list):
        return {name for each in schema for name in _named(each)}
    if not isinstance(schema, dict):
        return set()
    own = {_name(schema["$ref"])} if isinstance(schema.get("$ref"), str) else set()
    return own.union(*(_named(value) for value in schema.values()))


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]


def _lines(schemas: dict[str, Any]) -> str:
    lines = (f"{json.dumps(name)}: {json.dumps(schemas[name], separators=(',', ':'))}" for name in sorted(schemas))
    return "{\n" + ",\n".join(lines) + "\n}"


if __name__ == "__main__":
    FILE.write_text(text(Path(sys.argv[1])), encoding="utf-8")
