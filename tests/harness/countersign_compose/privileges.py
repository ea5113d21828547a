"""What a container may not do: be root, write, reach elsewhere, read others' keys, use more than its share."""

from __future__ import annotations

from countersign_contracts.event import CORE_SERVICES

from .project import Project, inspect, require

#: Ours that stay up, with the server that runs from somebody else's image and needs no more.
LOCKED = (*CORE_SERVICES, "nats")
#: Who has business elsewhere: callers, business systems.
OUTSIDE = {"gateway", "executor"}
_MEMORY = "held = b'x' * (2 << 30)"
_PROCESSES = """
import os, signal
made = []
try:
    while len(made) < 1000:
        if not (pid := os.fork()):
            signal.pause()
        made.append(pid)
except BlockingIOError:
    pass
for pid in made:
    os.kill(pid, signal.SIGKILL)
print(len(made))
"""
_REACHES = "import socket; socket.create_connection(({host!r}, {port}), 3)"
_READS = "from urllib.request import urlopen; print(urlopen('http://{at}/metrics', timeout=5).status)"


def unprivileged(project: Project) -> None:
    """As the engine was told, and as it is seen from inside."""
    # by its address: its name is known to its own network alone
    [business] = [each["IPAddress"] for each in project.inspect("ticketing")["NetworkSettings"]["Networks"].values()]
    for service in LOCKED:
        locked_down(project, service)
    for service in CORE_SERVICES:
        require(project("exec", "-T", service, "id", "-u").strip() == "10001", f"{service} is not root")
        wrote = project("exec", "-T", service, "sh", "-c", "touch /x /var/lib/countersign/x 2>&1; ls /x", check=False)
        require("Read-only file system" in wrote, f"{service} cannot write to its image")
        keys = project("exec", "-T", service, "sh", "-c", "ls /var/lib/countersign/keys/*.json").split()
        require(
            keys == [f"/var/lib/countersign/keys/{service}.json"], f"{service} has its own signing key alone: {keys}"
        )
        reached = project.python(service, _REACHES.format(host=business, port=8000)).returncode == 0
        require(
            reached == (service in OUTSIDE), f"{service} {'reaches' if reached else 'cannot reach'} a business system"
        )
    shut = project.python("ticketing", _REACHES.format(host="postgres", port=5432))
    require(shut.returncode != 0, "the database is out of reach from outside")


def locked_down(project: Project, service: str) -> None:
    """What the engine was told of one container."""
    container = project.inspect(service)
    host = container["HostConfig"]
    require(container["Config"]["User"] == "10001", f"{service} runs as user 10001")
    require(host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"], f"{service} may write nothing and has no capability")
    require("no-new-privileges:true" in host["SecurityOpt"], f"{service} can gain no privilege")
    require(host["Memory"] > 0, f"{service} has a bound on memory")


def limited(project: Project) -> None:
    """Beyond its share of memory and processes a program is ended or refused, and the service goes on."""
    killed = project.python("registry", _MEMORY)
    require(killed.returncode == 137, f"2 GiB are too much for a container of 512 MiB: {killed.returncode}")
    made = int(project.python("registry", _PROCESSES).stdout or -1)
    require(0 < made < 256, f"processes are bounded: {made} were made")
    state = inspect(project.containers("registry")[0])
    require(state["RestartCount"] == 0 and state["State"]["Running"], "the service itself went on")


def measured_inside_alone(project: Project) -> None:
    """Whoever calls the API is shown no metrics; those who operate it are, on another port."""
    require(project.python("gateway", _READS.format(at="127.0.0.1:8010")).stdout.strip() == "200", "metrics are there")
    public = project.python("gateway", _READS.format(at="127.0.0.1:8001"))
    require("404" in public.stderr, "the API's port has no metrics")
    published = project("port", "gateway", "8010", check=False).strip().removeprefix(":0")
    require(published == "", f"the port of the metrics is not published: {published}")
