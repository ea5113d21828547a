"""Writes services.yaml and slack/service.yaml of deploy/kubernetes: each service with what the code says is its own, so
that neither drifts.

`--check` writes nothing and exits with 1 where one is not current. Everything else in that folder is by hand.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from countersign_cli.bootstrap import Layout, prepare_material
from countersign_cli.deploy import hand_out
from countersign_contracts import topology
from countersign_contracts.event import CORE_SERVICES
from workspace import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
#: What each file has; Slack is a component, which an overlay asks for.
FILES = {"services.yaml": CORE_SERVICES, "slack/service.yaml": ("slack",)}
COMMAND = "make docs"
USER = 10001
OWN, TLS = "/var/lib/countersign", "/etc/countersign"
HTTP_PORT, HEALTH_PORT = 8001, 8010
#: Most replicas, where a consumer's lag decides between two and that many. The others are fixed at two.
MOST = {"gateway": 4, "policy": 6, "approvals": 4, "executor": 6}
#: Messages that wait for a consumer, for each replica, before there is one more.
LAG = 200
PROMETHEUS = "http://prometheus-operated.monitoring.svc:9090"
_HEAD = f"# Written by `{COMMAND}` (tools/generate_kubernetes.py); change it there, or by a patch in an overlay.\n"


def text(services: Sequence[str]) -> str:
    """The whole file that has these services."""
    own = files()
    documents = [document for service in services for document in _of(service, own[service])]
    return _HEAD + "".join("---\n" + yaml.safe_dump(each, sort_keys=False, width=120) for each in documents)


def files() -> dict[str, list[str]]:
    """What each service is handed, below its folder."""
    with tempfile.TemporaryDirectory(prefix="countersign-generate-") as temporary:
        folder = Path(temporary)
        hand_out(prepare_material(Layout(folder / "keys"), nats_host="0.0.0.0", nats_port=4222), folder / "out")  # noqa: S104
        return {
            service: sorted(
                file.relative_to(folder / "out" / service).as_posix()
                for file in (folder / "out" / service).rglob("*")
                if file.is_file()
            )
            for services in FILES.values()
            for service in services
        }


def _of(service: str, own: list[str]) -> list[dict[str, Any]]:
    found = [_workload(service, own), _service(service), _budget(service)]
    return [*found, _scaled(service)] if service in MOST else found


def _meta(service: str) -> dict[str, Any]:
    return {"name": f"countersign-{service}", "labels": _labels(service)}


def _labels(service: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": "countersign", "app.kubernetes.io/component": service}


def _workload(service: str, own: list[str]) -> dict[str, Any]:
    spec: dict[str, Any] = {} if service in MOST else {"replicas": 2}  # else the autoscaler's
    spec |= {"selector": {"matchLabels": _labels(service)}}
    pod = {"metadata": {"labels": _labels(service)}, "spec": _pod(service, own)}
    if service == "audit":
        # of several one writes; each keeps the checkpoints that it signed on a volume of its own
        claim = {
            "metadata": {"name": "checkpoints"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        spec |= {"serviceName": "countersign-audit", "template": pod, "volumeClaimTemplates": [claim]}
        return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": _meta(service), "spec": spec}
    spec |= {"strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}, "template": pod}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _meta(service), "spec": spec}


def _pod(service: str, own: list[str]) -> dict[str, Any]:
    return {
        "serviceAccountName": "countersign",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": _labels(service)},
            }
        ],
        "containers": [_container(service)],
        "volumes": _volumes(service, own),
    }


def _container(service: str) -> dict[str, Any]:
    env = [{"name": "COUNTERSIGN_INSTANCE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    mounts = [
        {"name": "own", "mountPath": OWN, "readOnly": True},
        {"name": "nats-ca", "mountPath": f"{TLS}/nats-ca", "readOnly": True},
        {"name": "postgres-ca", "mountPath": f"{TLS}/postgres-ca", "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
    ]
    if service == "gateway":
        env += [
            {"name": "COUNTERSIGN_HTTP_HOST", "value": "0.0.0.0"},  # noqa: S104
            {"name": "COUNTERSIGN_HTTP_PORT", "value": str(HTTP_PORT)},
            {"name": "COUNTERSIGN_HTTP_CERT_FILE", "value": f"{TLS}/http/tls.crt"},
            {"name": "COUNTERSIGN_HTTP_KEY_FILE", "value": f"{TLS}/http/tls.key"},
        ]
        mounts.append({"name": "http-tls", "mountPath": f"{TLS}/http", "readOnly": True})
    if service == "executor":
        env.append({"name": "COUNTERSIGN_SECRETS_FILE", "value": f"{TLS}/connectors"})
        mounts.append({"name": "connectors", "mountPath": f"{TLS}/connectors", "readOnly": True})
    if service == "slack":
        env.append({"name": "COUNTERSIGN_SLACK_FOLDER", "value": f"{TLS}/workspace"})
        mounts.append({"name": "workspace", "mountPath": f"{TLS}/workspace", "readOnly": True})
    if service == "audit":
        env.append({"name": "COUNTERSIGN_CHECKPOINT_FILE", "value": "/checkpoints/checkpoints.jsonl"})
        mounts.append({"name": "checkpoints", "mountPath": "/checkpoints"})
    return {
        "name": "service",
        "image": "countersign",
        "args": ["serve", service],
        "envFrom": [{"configMapRef": {"name": "countersign"}}],
        "env": env,
        "ports": [{"name": name, "containerPort": number} for name, number in _ports(service).items()],
        # waiting for NATS or PostgreSQL is no reason to be killed: it recovers by itself, and says so
        "startupProbe": _probe("live", 2, 30),
        "livenessProbe": _probe("live", 10, 6),
        "readinessProbe": _probe("ready", 3, 2),
        "resources": {
            "requests": {"cpu": "250m", "memory": "128Mi"},
            "limits": {"memory": "512Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def _probe(of: str, every_s: int, failures: int) -> dict[str, Any]:
    asked = {"path": f"/health/{of}", "port": "health"}
    return {"httpGet": asked, "periodSeconds": every_s, "timeoutSeconds": 3, "failureThreshold": failures}


def _volumes(service: str, files: list[str]) -> list[dict[str, Any]]:
    # a Secret is flat: its keys are the files' names, and `path` is where the service looks for them
    items = [{"key": Path(file).name, "path": file} for file in files]
    own = {"secretName": f"countersign-{service}", "defaultMode": 0o440, "items": items}
    found: list[dict[str, Any]] = [
        {"name": "own", "secret": own},
        {"name": "nats-ca", "secret": _authority("countersign-nats-tls")},
        {"name": "postgres-ca", "secret": _authority("countersign-postgres-ca")},
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
    ]
    if service == "gateway":
        found.append({"name": "http-tls", "secret": {"secretName": "countersign-http-tls", "defaultMode": 0o440}})
    if service == "executor":
        connectors = {"secretName": "countersign-connectors", "defaultMode": 0o440, "optional": True}
        found.append({"name": "connectors", "secret": connectors})
    if service == "slack":
        workspace = {"secretName": "countersign-slack-workspace", "defaultMode": 0o440}
        found.append({"name": "workspace", "secret": workspace})
    return found


def _authority(secret: str) -> dict[str, Any]:
    return {"secretName": secret, "defaultMode": 0o440, "items": [{"key": "ca.crt", "path": "ca.crt"}]}


def _ports(service: str) -> dict[str, int]:
    return ({"https": HTTP_PORT} if service == "gateway" else {}) | {"health": HEALTH_PORT}


def _service(service: str) -> dict[str, Any]:
    # metrics are no business of the gateway's callers: the first port alone
    name, number = next(iter(_ports(service).items()))
    port = {"name": name, "port": number, "targetPort": name}
    spec: dict[str, Any] = {"selector": _labels(service), "ports": [port]}
    if service != "gateway":
        spec = {"clusterIP": "None"} | spec  # nobody calls it; Prometheus looks at each
    return {"apiVersion": "v1", "kind": "Service", "metadata": _meta(service), "spec": spec}


def _budget(service: str) -> dict[str, Any]:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": _labels(service)}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": _meta(service), "spec": spec}


def _scaled(service: str) -> dict[str, Any]:
    """KEDA's: as many replicas as the service's busiest consumer needs."""
    names = "|".join(consumer.name for consumer in topology.CONSUMERS if consumer.service == service)
    query = f'max(nats_consumer_num_pending{{consumer_name=~"{names}"}})'
    trigger = {"type": "prometheus", "metadata": {"serverAddress": PROMETHEUS, "query": query, "threshold": str(LAG)}}
    spec = {
        "scaleTargetRef": {"name": f"countersign-{service}"},
        "minReplicaCount": 2,
        "maxReplicaCount": MOST[service],
        "cooldownPeriod": 300,
        "fallback": {"failureThreshold": 3, "replicas": 2},
        "triggers": [trigger],
    }
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": _meta(service), "spec": spec}


def main() -> int:
    """Write the files, or compare them; the exit code."""
    parser = argparse.ArgumentParser(description="Write the services of deploy/kubernetes from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if one is not current")
    check, code = parser.parse_args().check, 0
    for name, services in FILES.items():
        file, wanted = FOLDER / name, text(services)
        if file.is_file() and file.read_text(encoding="utf-8") == wanted:
            continue
        if check:
            print(f"{file.relative_to(ROOT)} is not current; run `{COMMAND}`", file=sys.stderr)
            code = 1
        else:
            file.write_text(wanted, encoding="utf-8")
            print(f"{file.relative_to(ROOT)} is written anew")
    return code


if __name__ == "__main__":
    sys.exit(main())
