"""The Kubernetes manifests, without a cluster: they parse, agree with the code and each other, and are locked down."""

from __future__ import annotations

import copy
import functools
import importlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

import generate_kubernetes
from countersign_cli.bootstrap import Layout, prepare_material, read_node
from countersign_cli.deploy import hand_out
from countersign_cli.embedded.binaries import nats_server_binary
from countersign_cli.settings import ClientSettings
from countersign_contracts import topology
from countersign_contracts.event import CORE_SERVICES
from countersign_harness.certificates import Authority

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
PAGE = ROOT / "docs" / "operate" / "kubernetes.md"
Document = dict[str, Any]
#: Parts that an overlay may ask for.
COMPONENTS = ("slack", "monitoring", "oidc")
#: Those that run, with the optional one.
SERVICES = (*CORE_SERVICES, "slack")
#: Of Kubernetes 1.33; written by tools/generate_kubernetes_schemas.py, since the whole is a hundred megabytes.
SCHEMAS = json.loads(Path(__file__).with_name("kubernetes-1.33.json").read_text())
OF_OPERATORS = {"cert-manager.io", "postgresql.cnpg.io", "keda.sh", "monitoring.coreos.com"}
#: What `countersign serve` itself takes from the environment, beside the services' settings.
OF_SERVE = {"FOLDER", "POSTGRES", "POSTGRES_CA_FILE"}
NODES = [f"countersign-nats-{n}=countersign-nats-{n}.countersign-nats-headless" for n in range(3)]


def listed(folder: Path) -> list[str]:
    found: list[str] = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    return found


def documents() -> list[Document]:
    """Every document of the kustomization and of its components, in order."""
    return copy.deepcopy(_documents())


@functools.cache
def _documents() -> list[Document]:
    folders = [FOLDER, *(FOLDER / component for component in COMPONENTS)]
    files = [folder / file for folder in folders for file in listed(folder)]
    return [each for file in files for each in yaml.safe_load_all(file.read_text())]


def of_kind(*kinds: str) -> list[Document]:
    return [each for each in documents() if each["kind"] in kinds]


def pods() -> list[Document]:
    """The specs of every pod, by what makes it."""
    return [each["spec"]["template"]["spec"] for each in of_kind("Deployment", "StatefulSet", "Job")]


def component(document: Document) -> str:
    found: str = document["metadata"]["labels"]["app.kubernetes.io/component"]
    return found


def workload(service: str) -> Document:
    [found] = [each for each in of_kind("Deployment", "StatefulSet") if component(each) == service]
    return found


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `countersign bootstrap keys` writes for these nodes."""
    folder = tmp_path_factory.mktemp("keys")
    material = prepare_material(
        Layout(folder / "keys"), nats_host="0.0.0.0", nats_port=4222, nodes=[read_node(node) for node in NODES]
    )
    hand_out(material, folder / "services")
    return folder


def test_what_is_generated_is_current() -> None:
    for name, services in generate_kubernetes.FILES.items():
        assert (FOLDER / name).read_text() == generate_kubernetes.text(services), "run `make docs`"


def test_every_file_of_the_folder_is_used() -> None:
    others = {"kustomization.yaml", "nats-values.yaml", *COMPONENTS}
    assert {file.name for file in FOLDER.iterdir()} == others | set(listed(FOLDER))
    for component in COMPONENTS:
        folder = FOLDER / component
        assert {file.name for file in folder.iterdir()} == {"kustomization.yaml", *listed(folder)}
    names = [(each["apiVersion"], each["kind"], each["metadata"]["name"]) for each in documents()]
    assert len(set(names)) == len(names)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl here")
def test_kustomize_takes_it_and_every_component(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "base")
    [overlay] = re.findall(r"^```yaml\n(resources:.+?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "my-overlay").mkdir()
    (tmp_path / "my-overlay" / "kustomization.yaml").write_text(overlay.replace("../deploy/kubernetes", "../base"))
    folder = str(tmp_path / "my-overlay")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    assert len(built) == len(documents())
    assert {each["metadata"].get("namespace") for each in built if each["kind"] != "Namespace"} == {"countersign"}
    images = {c["image"] for each in built if "template" in each.get("spec", {}) for c in containers(each)}
    assert images == {"registry.mine/countersign:0.1.0"}, "the page's overlay names the image of every one"


def containers(document: Document) -> list[Document]:
    found: list[Document] = document["spec"]["template"]["spec"]["containers"]
    return found


def wrong(document: Document) -> list[str]:
    """What the schema of its kind says is wrong with a document, strictly: what it does not know is wrong."""
    schema = jsonschema_rs.Draft202012Validator({"$ref": f"#/kinds/{document['kind']}", **SCHEMAS})
    found = schema.iter_errors(document)
    return [f"{document['kind']}: {error.instance_path}: {error.message}" for error in found]


def test_the_schemas_of_kubernetes_take_it() -> None:
    """All but the kinds that an operator brings: their schemas are not here."""
    checked = [each for each in documents() if each["apiVersion"].partition("/")[0] not in OF_OPERATORS]
    assert {each["kind"] for each in checked} == set(SCHEMAS["kinds"])
    assert [said for each in checked for said in wrong(each)] == []


def test_the_schemas_find_what_is_wrong() -> None:
    changed = workload("gateway")
    [container] = containers(changed)
    container["readinessProbe"]["periodSecond"] = container["readinessProbe"].pop("periodSeconds")
    container["ports"][0]["containerPort"] = "https"
    [port, probe] = sorted(wrong(changed))
    assert "'containerPort'" in port and '"https" is not of type "integer"' in port
    assert "'readinessProbe'" in probe and "'periodSecond' was unexpected" in probe


def test_every_service_runs_and_has_what_it_needs() -> None:
    assert sorted(component(each) for each in of_kind("Deployment", "StatefulSet")) == sorted(SERVICES)
    for service in SERVICES:
        found = workload(service)
        labels = found["spec"]["selector"]["matchLabels"]
        assert found["spec"]["template"]["metadata"]["labels"] == labels
        [budget] = [each for each in of_kind("PodDisruptionBudget") if component(each) == service]
        [front] = [each for each in of_kind("Service") if component(each) == service]
        assert budget["spec"]["selector"]["matchLabels"] == front["spec"]["selector"] == labels
        assert budget["spec"]["maxUnavailable"] == 1
        [container] = containers(found)
        assert container["args"] == ["serve", service]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] == "health"
        assert ports == {"health": 8010} | ({"https": 8001} if service == "gateway" else {})
        reached = [port["targetPort"] for port in front["spec"]["ports"]]
        assert reached == ["https" if service == "gateway" else "health"], "its callers are shown no metrics"


def test_there_are_several_of_each_service() -> None:
    scaled = {each["spec"]["scaleTargetRef"]["name"]: each["spec"] for each in of_kind("ScaledObject")}
    for service in SERVICES:
        replicas = workload(service)["spec"].get("replicas")
        autoscaler = scaled.pop(f"countersign-{service}", None)
        assert (replicas is None) != (autoscaler is None), "the autoscaler's number and a fixed one would fight"
        assert (replicas or autoscaler["minReplicaCount"]) >= 2
    assert scaled == {}


def test_it_scales_on_consumers_that_there_are() -> None:
    known = {consumer.name: consumer.service for consumer in topology.CONSUMERS}
    for each in of_kind("ScaledObject"):
        [trigger] = each["spec"]["triggers"]
        [names] = re.findall(
            r'^max\(nats_consumer_num_pending\{consumer_name=~"([^"]+)"\}\)$', trigger["metadata"]["query"]
        )
        assert {known[name] for name in names.split("|")} == {component(each)}


def test_postgresql_takes_all_the_connections_that_there_may_be() -> None:
    [cluster] = of_kind("Cluster")
    most = {each["spec"]["scaleTargetRef"]["name"]: each["spec"]["maxReplicaCount"] for each in of_kind("ScaledObject")}
    pool = importlib.import_module("countersign_chassis.settings").ServiceSettings.model_fields["postgres_pool_max"]
    # while a deployment rolls there is one more of each
    wanted = sum((most.get(f"countersign-{service}", 2) + 1) * pool.default for service in SERVICES)
    assert wanted < int(cluster["spec"]["postgresql"]["parameters"]["max_connections"])
    assert cluster["spec"]["instances"] >= 3


def _environment(document: Document) -> Iterator[str]:
    [settings] = of_kind("ConfigMap")
    [container] = containers(document)
    assert container["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]
    yield from settings["data"]
    for variable in container.get("env", []):
        assert "valueFrom" in variable or variable["value"]
        yield variable["name"]


def test_every_variable_is_a_setting_of_the_service_that_gets_it() -> None:
    for service in SERVICES:
        known = importlib.import_module(f"countersign_{service}.settings").Settings.model_fields
        for name in _environment(workload(service)):
            setting = name.removeprefix("COUNTERSIGN_")
            assert setting in OF_SERVE or setting.lower() in known, f"{service} has no setting {name}"


def test_compose_and_kubernetes_set_the_same() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    [settings] = of_kind("ConfigMap")
    apart = {"COUNTERSIGN_NATS_CA_FILE", "COUNTERSIGN_POSTGRES_CA_FILE"}  # in compose the networks are its own
    observed = {"COUNTERSIGN_OTLP_URL", "COUNTERSIGN_TRACE_RATIO"}  # an overlay says where traces go
    assert set(compose["x-environment"]) - observed == set(settings["data"]) - apart
    for name in ("COUNTERSIGN_FOLDER", "COUNTERSIGN_HEALTH_HOST", "COUNTERSIGN_HEALTH_PORT"):
        assert compose["x-environment"][name] == settings["data"][name]
    gateway = {each["name"]: each.get("value") for each in containers(workload("gateway"))[0]["env"]}
    for name in ("COUNTERSIGN_HTTP_HOST", "COUNTERSIGN_HTTP_PORT"):
        assert compose["services"]["gateway"]["environment"][name] == gateway[name]
    for service in SERVICES:
        assert compose["services"][service]["command"] == containers(workload(service))[0]["args"]


def test_the_command_knows_every_variable() -> None:
    assert not OF_SERVE & {name.upper() for name in ClientSettings.model_fields}
    source = (ROOT / "cli/src/countersign_cli/commands/deploy.py").read_text()
    assert all(f'"COUNTERSIGN_{name}"' in source for name in OF_SERVE)


def test_a_service_is_handed_its_own_files_and_nobody_else_s(keys: Path) -> None:
    for service in SERVICES:
        folder = keys / "services" / service
        handed = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
        [own] = [v["secret"] for v in workload(service)["spec"]["template"]["spec"]["volumes"] if v["name"] == "own"]
        assert [item["path"] for item in own["items"]] == handed
        assert [item["key"] for item in own["items"]] == [Path(path).name for path in handed]
        assert len({Path(path).name for path in handed}) == len(handed), "a Secret is flat"
        assert own["secretName"] == f"countersign-{service}"


def test_the_bootstrap_step_has_no_key_that_it_does_not_use(keys: Path) -> None:
    [job] = of_kind("Job")
    [items] = [
        volume["secret"]["items"] for volume in job["spec"]["template"]["spec"]["volumes"] if volume["name"] == "keys"
    ]
    assert {item["path"] for item in items} == {
        "keys/bootstrap-core.creds",
        "keys/bootstrap-agents.creds",
        "keys/postgres.json",
    }
    assert all((keys / "keys" / item["path"]).is_file() for item in items)


def test_secrets_are_named_and_never_held() -> None:
    assert of_kind("Secret") == []
    for each in documents():
        assert "PRIVATE KEY" not in str(each) and "password" not in str(each).lower()


def test_every_pod_is_locked_down() -> None:
    for pod in pods():
        assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"memory"} <= set(container["resources"]["limits"])
            assert {"cpu", "memory"} == set(container["resources"]["requests"])
        for mounted in (mount for container in pod["containers"] for mount in container["volumeMounts"]):
            assert mounted.get("readOnly") or mounted["name"] in ("tmp", "checkpoints")
        volumes = [volume["name"] for volume in pod["volumes"]]
        claimed = ["checkpoints"] if pod["containers"][0].get("args", [""])[-1] == "audit" else []
        assert sorted({m["name"] for c in pod["containers"] for m in c["volumeMounts"]}) == sorted(volumes + claimed)


def test_nobody_is_reached_who_is_not_named() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind("NetworkPolicy")}
    assert policies["nobody"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    outside = [
        name for name, spec in policies.items() if any("ipBlock" in str(rule) for rule in spec.get("egress", []))
    ]
    assert outside == ["executor", "slack", "oidc"]
    for name in ("slack", "oidc"):
        [rule] = policies[name]["egress"]
        assert rule["ports"] == [{"port": 443, "protocol": "TCP"}]
        assert "10.0.0.0/8" in rule["to"][0]["ipBlock"]["except"], "not into the cluster"
    assert policies["oidc"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "registry"
    [watched] = policies["services"]["ingress"]
    assert watched["ports"] == [{"port": 8010, "protocol": "TCP"}], "Prometheus alone, and metrics alone"
    services = policies["services"]["egress"]
    assert sorted(port["port"] for rule in services for port in rule["ports"]) == [53, 53, 4222, 5432]


def test_the_certificates_are_of_the_names_under_which_servers_are_reached() -> None:
    [settings] = of_kind("ConfigMap")
    made = {each["spec"]["secretName"]: each["spec"] for each in of_kind("Certificate")}
    for url in settings["data"]["COUNTERSIGN_NATS_URL"].split(","):
        assert url.removeprefix("nats://").removesuffix(":4222") in made["countersign-nats-tls"]["dnsNames"]
    assert set(made["countersign-nats-tls"]["usages"]) >= {"server auth", "client auth"}
    [cluster] = of_kind("Cluster")
    assert settings["data"]["COUNTERSIGN_POSTGRES"] == f"{cluster['metadata']['name']}-rw:5432"
    named = {v["secret"]["secretName"] for pod in pods() for v in pod["volumes"] if "secret" in v}
    own = {f"countersign-{service}" for service in SERVICES}
    own |= {"countersign-bootstrap", "countersign-connectors", "countersign-slack-workspace"}
    assert named == own | {"countersign-nats-tls", "countersign-http-tls", f"{cluster['metadata']['name']}-ca"}


def test_nats_server_takes_the_accounts_as_the_chart_includes_them(keys: Path, tmp_path: Path) -> None:
    values = yaml.safe_load((FOLDER / "nats-values.yaml").read_text())
    [(key, included)] = values["config"]["merge"].items()
    assert key.endswith("$include") and values["config"]["cluster"]["replicas"] == len(NODES)
    mounted = Path("/etc/nats-config", included).resolve()
    [mount] = [each["value"] for each in values["container"]["patch"]]
    assert mounted.parent == Path(mount["mountPath"])
    (tmp_path / "nats-config").mkdir()
    (tmp_path / mounted.parent.name).mkdir()
    shutil.copyfile(keys / "keys" / "nats" / mounted.name, tmp_path / mounted.parent.name / mounted.name)
    pair = Authority(tmp_path / "authority").issue(tmp_path / "tls")
    tls = f'{{cert_file: "{pair.certificate}", key_file: "{pair.key}", ca_file: "{tmp_path}/authority/ca.crt"'
    disk = values["config"]["jetstream"]["fileStore"]["maxSize"]
    every = values["config"]["resolver"]["merge"]["interval"]
    config = tmp_path / "nats-config" / "nats.conf"  # as the chart's templates write it
    config.write_text(
        f"include {included};\n"
        "server_name: countersign-nats-0\nport: 4222\nhttp_port: 8222\n"
        f"tls: {tls}}}\n"
        f"cluster: {{name: countersign-nats, port: 6222, no_advertise: true, tls: {tls}, verify: true}},"
        ' routes: ["tls://countersign-nats-1.countersign-nats-headless:6222"]}\n'
        f'jetstream: {{store_dir: "{tmp_path}", max_file_store: {disk}}}\n'
        f'resolver: {{dir: "{tmp_path}/resolver", type: full, interval: {every}}}\n'
    )
    done = subprocess.run([nats_server_binary(), "-t", "-c", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
