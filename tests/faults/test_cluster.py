"""Three nats-servers, R3 streams: each killed in turn under traffic, and nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from pathlib import Path

import pytest

from countersign_faults.cluster import NODES, Cluster
from countersign_faults.declarations import AGENTS
from countersign_faults.session import Outcome, Session, session

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SEED = 11
RECOVERY_S = 90.0


@pytest.fixture(scope="module")
def endured(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Traffic, while each node dies and comes back."""
    logging.getLogger("nats").setLevel(logging.CRITICAL)
    folder = tmp_path_factory.mktemp("cluster")
    return asyncio.run(_endure(folder / "system"))


async def _endure(folder: Path) -> Outcome:
    outcome = Outcome(SEED, 0)
    async with session(folder, outcome, print, make=Cluster) as here:
        cluster = here.system
        assert isinstance(cluster, Cluster)
        await cluster.until_copied(RECOVERY_S)
        for node in NODES:
            await _lose(here, cluster, node)
        await _revoke_behind_its_back(here, cluster, NODES[-1])
    return outcome


async def _lose(here: Session, cluster: Cluster, node: str) -> None:
    leads = Counter(copy.node for copy in await cluster.copies() if copy.leads)[node]
    began = time.monotonic()
    await cluster.kill_node(node)
    recovered = await here.traffic.probe(RECOVERY_S)
    until_action = time.monotonic() - began
    try:
        await cluster.until_ready(RECOVERY_S)
    except TimeoutError as error:
        here.outcome.findings.append(f"without node {node}: {error}")
    until_ready = time.monotonic() - began
    await cluster.start_node(node)
    copied = await cluster.until_copied(RECOVERY_S)
    here.tell(
        f"node {node}, leading {leads} streams: an action succeeded {until_action:.1f} s after the kill, all ready"
        f" after {until_ready:.1f} s; back, it held everything after {copied:.1f} s"
    )
    if not recovered:
        here.outcome.findings.append(f"no action succeeded within {RECOVERY_S:.0f} s without node {node}")


async def _revoke_behind_its_back(here: Session, cluster: Cluster, node: str) -> None:
    """Credentials are voided while a node is away: back again, it must refuse them too."""
    creds = cluster.layout.root / f"{AGENTS[2]}.creds"
    assert await cluster.lets_in(node, AGENTS[2], creds), "a valid credential is not let in: nothing is proven"
    await cluster.kill_node(node)
    await here.traffic.probe(RECOVERY_S)
    await cluster.ok("POST", f"/api/v1/agents/{AGENTS[2]}/credentials", {"replace": True})
    await cluster.start_node(node)
    began = time.monotonic()
    while await cluster.lets_in(node, AGENTS[2], creds):
        if time.monotonic() - began > RECOVERY_S:
            here.outcome.findings.append(f"node {node} still lets in what was voided while it was away")
            return
        await asyncio.sleep(0.1)
    here.tell(
        f"node {node} refused a credential voided while it was away, {time.monotonic() - began:.1f} s after its start"
    )


def test_the_promises_hold_while_each_node_is_lost_in_turn(endured: Outcome) -> None:
    assert endured.findings == []
    assert endured.unrecorded_ends == 0


def test_traffic_went_on(endured: Outcome) -> None:
    print(dict(endured.ended))
    assert endured.ended["succeeded"] > 20
