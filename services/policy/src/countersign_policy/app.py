"""The policy service, wired: everything it connects, consumes, answers and runs is on this page."""

from __future__ import annotations

import asyncio

from countersign_chassis import NO_FAILPOINTS, Failpoints, Service
from countersign_contracts.commands import CancelAction, CommitPolicies, PreparePolicies
from countersign_contracts.model import now
from countersign_contracts.projection import AGENTS, STOPS, TOOLS

from .changes import Changes
from .decider import Decider
from .declarations import Declarations
from .facts import Facts
from .handlers import Handlers
from .issuer import Issuer
from .known import Known
from .plan import compile_declared
from .settings import Settings
from .store import Decisions


def build(settings: Settings, failpoints: Failpoints = NO_FAILPOINTS) -> Service:
    """The service, not started."""
    service = Service("policy", settings, failpoints, hot=2)
    service.migrations("countersign_policy")

    decisions = Decisions(service.db)
    declarations = Declarations(service.db)
    policies = service.metrics.gauge("countersign_policies", "Cedar policies in force, compiled ones included")
    known = Known(
        declarations,
        agents=service.mirror(AGENTS),
        tools=service.mirror(TOOLS),
        stops=service.mirror(STOPS),
        production=settings.production_environments,
        policies=policies,
    )
    issuer = Issuer(service.key, settings.warrant_lifetime_s)
    decider = Decider(known, decisions, issuer, service.metrics, failpoints)
    facts = Facts(service.bus, settings.facts_patience_s, settings.facts_in_flight)
    handlers = Handlers(service.bus, decider, decisions, facts, failpoints, service.log)
    changes = Changes(service.bus, declarations, known, service.key, settings.change_publish_interval_s)

    async def load() -> None:
        await declarations.begin(compile_declared(()).version, now())
        await known.reload()

    async def purging() -> None:
        while True:
            await decisions.purge(now())
            await asyncio.sleep(settings.purge_interval_s)

    service.on_start(load)
    service.answer(CancelAction, handlers.cancel)
    service.answer(PreparePolicies, changes.prepare)
    service.answer(CommitPolicies, changes.commit)
    # two batches at once: one is decided while the other is written or published
    service.consume("policy-actions", handlers.actions, max_batch=128, concurrency=2)
    service.consume("policy-approvals", handlers.approvals)
    service.background(changes.publishing, "changes")
    service.background(purging, "purge")
    service.on_stop(handlers.stop)
    return service
