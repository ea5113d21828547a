"""`make test-compose`: the compose file on a real engine; up, the demonstration's acts, privileges and limits, kills,
scaling, its profiles, down and up.

Without an engine it says so and is skipped.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from countersign_cli.bootstrap import Layout
from countersign_cli.client import Client
from countersign_cli.commands.audit import export_lines, verify_file
from countersign_cli.commands.demo import example_files
from countersign_cli.demo.run import play
from countersign_cli.embedded.datadir import write_secret
from countersign_compose.privileges import limited, measured_inside_alone, unprivileged
from countersign_compose.profiles import have, observability, slack
from countersign_compose.project import Project, ask, docker, inspect, require, step, works
from countersign_contracts.event import CORE_SERVICES

#: What the Dockerfile builds on, and how much larger the image may be, in MB.
BASE, MOST_MB = "python:3.13-slim", 250


def main() -> None:
    """Run all of it; exit code 1 with the first thing that is not as it should be."""
    if why := no_engine():
        print(f"test-compose: SKIPPED, {why}")
        return
    with tempfile.TemporaryDirectory(prefix="countersign-compose-") as folder:
        project = Project(Path(folder))
        try:
            with step("the image"):
                project("build")
                small()
            with step("up, to healthy"):
                project.up()
            check(project, Layout(Path(folder)))
        except BaseException:
            print(project("logs", "--tail", "15", check=False)[-6000:], file=sys.stderr)
            raise
        finally:
            project("--profile", "*", "down", "--volumes", "--timeout", "20", check=False)
    print("test-compose: passed")


def check(project: Project, layout: Layout) -> None:
    """What a running project must show."""
    write_secret(layout.admin_token, project.read("registry", "admin.token"))
    layout.trust.write_text(project.read("audit", "trust.json"))
    with step("the demonstration's acts"):
        demonstration(project, layout)
    with step("least privilege"):
        unprivileged(project)
        measured_inside_alone(project)
    with step("bounds on memory and processes"):
        limited(project)
    admin = Client(project.url, layout.admin_token.read_text().strip())
    for service in CORE_SERVICES:
        with step(f"the {service} service killed"):
            starts_again(project, service)
            works(admin)
    for server in ("nats", "postgres"):
        with step(f"{server} killed"):
            docker("kill", *project.containers(server))
            project.up()
            works(admin)
    with step("three executors, one of them killed, and a stop"):
        scaled(project, admin)
    with step("Slack"):
        slack(project, admin)
    with step("what an operator sees"):
        shown(project, admin, layout.admin_token.read_text().strip())
    with step("observability"):
        observability(project, dict.fromkeys((*CORE_SERVICES, "slack"), 1) | {"executor": 3})
    head = admin.get("/api/v1/audit/head")["seq"]
    with step("a graceful stop"):
        stops(project)
    with step("down, and up with the same volumes"):
        project("--profile", "*", "down", "--timeout", "20")
        project.up()
        require(admin.get("/api/v1/audit/head")["seq"] >= head > 0, "the ledger is there")
        works(admin)
    with step("the ledger against the checkpoints"):
        layout.checkpoints.write_text(project.read("audit", "checkpoints.jsonl"))
        export = layout.root / "export.jsonl"
        export.write_text("\n".join(export_lines(admin)) + "\n")
        report = verify_file(export, layout.trust, layout.checkpoints)
        require(report.ok, f"the ledger verifies: {report}")


def small() -> None:
    """What the image adds to its base."""
    have(BASE)  # BuildKit keeps it to itself
    image, base = (
        int(docker("image", "inspect", "--format", "{{.Size}}", name)) for name in ("countersign:local", BASE)
    )
    added = (image - base) / 1e6
    print(
        f"    {added:.0f} MB over {BASE}; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True
    )
    require(added <= MOST_MB, f"the image is at most {MOST_MB} MB over its base: {added:.0f}")


def demonstration(project: Project, layout: Layout) -> None:
    """The five acts, against the containers."""
    asyncio.run(
        play(
            url=project.url,
            nats_url=project.nats_url,
            layout=layout,
            files=example_files(),
            ticketing_url=project.ticketing_url,
            ungoverned_url=project.ungoverned_url,
            checkpoints=None,
            called_at="http://ticketing:8000",
        )
    )


def starts_again(project: Project, service: str) -> None:
    """Everything in a service's container dies at once."""
    [container] = project.containers(service)
    # as the service's own user, from within: what the engine kills itself it would not start again
    project.python(service, "import os; os.kill(-1, 9)")
    deadline = time.monotonic() + 60
    while inspect(container)["RestartCount"] == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    require(inspect(container)["RestartCount"] == 1, "the engine started it again, by itself")
    project.up()


def scaled(project: Project, admin: Client) -> None:
    """Two executors carry on when the third is gone; a stop holds for all of them."""
    project.up("--scale", "executor=3", "--no-recreate")
    containers = project.containers("executor")
    require(len(containers) == 3, f"there are three executors: {containers}")
    works(admin)
    docker("kill", containers[0])
    works(admin)
    stop = admin.post("/api/v1/stops", {"scope": "all", "reason": "a drill"})
    denied = ask(admin)
    require(denied["state"] == "denied" and "a drill" in denied["reason"], f"a stop denies: {denied}")
    admin.delete(f"/api/v1/stops/{stop['stop_id']}")
    docker("start", containers[0])


def shown(project: Project, admin: Client, token: str) -> None:
    """`status` shows every replica; what is down is named, and hides nothing else."""
    look = (
        "--profile",
        "status",
        "run",
        "--rm",
        "-T",
        "-e",
        f"COUNTERSIGN_TOKEN={token}",
        "status",
        "status",
        "--json",
    )
    found = json.loads(project.run(*look).stdout)
    services = Counter(name.partition("@")[0] for name in found["services"])
    require(services == dict.fromkeys((*CORE_SERVICES, "slack"), 1) | {"executor": 3}, f"every replica: {services}")
    require(found["ready"] and not found["unread"], f"all of them can work: {found['wrong']}")
    require("ledger_lag_s" in found["services"]["audit"], "the ledger's lag is told")
    docker("stop", *project.containers("audit"))
    done = project.run(*look)
    found = json.loads(done.stdout)
    require(done.returncode == 3, f"with audit down the exit code is 3, not {done.returncode}")
    require(any(wrong.startswith("audit is not ready: does not answer") for wrong in found["wrong"]), f"{found}")
    require("ledger" in found["unread"] and "approvals_pending" in found, f"the rest is shown: {found}")
    docker("start", *project.containers("audit"))
    works(admin)


def stops(project: Project) -> None:
    """Asked to stop, everything ends by itself within its grace period."""
    project("--profile", "*", "stop")
    for service in (*CORE_SERVICES, "slack", "nats", "postgres"):
        for container in project.containers(service):
            state = inspect(container)["State"]
            require(state["ExitCode"] == 0 and not state["OOMKilled"], f"{service} stops when asked: {state}")


def no_engine() -> str:
    """Why it cannot run here; empty if it can."""
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return "there is no `docker` command"
        if done.returncode != 0:
            return f"`{' '.join(command)}` says: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
    return ""


if __name__ == "__main__":
    main()
