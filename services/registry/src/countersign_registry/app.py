"""The registry as a whole: what connects, what is answered, what runs beside."""

from __future__ import annotations

import asyncio

from countersign_chassis import NO_FAILPOINTS, Failpoints, Service
from countersign_contracts.commands import (
    CommitAgents,
    GetAgent,
    IssueCredentials,
    ListAgents,
    PrepareAgents,
    RegisterAgent,
    SetAgentStatus,
)
from countersign_contracts.fleet import person_key
from countersign_contracts.people_commands import AddPerson, ListPeople, RemovePerson
from countersign_contracts.projection import AGENTS, PEOPLE

from .aftermath import Aftermath
from .agents import AgentCommands
from .changes import Changes
from .gauges import Gauges
from .heartbeats import Heartbeats
from .nats_users import AgentsAccount
from .outbox import Outbox
from .people import PeopleCommands
from .people_store import PeopleStore
from .projections import Projection
from .revocations import Revocations
from .settings import Settings
from .store import AgentRecords, Lock, Store


def build(settings: Settings, failpoints: Failpoints = NO_FAILPOINTS) -> Service:
    """Wire the registry. Nothing connects before ``start``.

    Raises :class:`CountersignError` naming a key file that is missing or holds something else.
    """
    service = Service("registry", settings, failpoints)
    service.migrations("countersign_registry")
    account = AgentsAccount.of(settings)
    metrics, log, core = service.metrics, service.log, service.bus.connection
    issued = metrics.counter("countersign_credentials_issued", "Credentials issued to agents", ["kind"])
    received = metrics.counter("countersign_heartbeats_received", "Heartbeats of agents taken")
    refused = metrics.counter("countersign_heartbeats_refused", "Heartbeats of agents refused", ["code"])
    pushes = metrics.counter("countersign_account_pushes", "Pushes of account AGENTS to nats-server", ["result"])
    revoked = metrics.gauge("countersign_nats_users_revoked", "NATS users that nats-server was told to refuse")
    agents_by_status = metrics.gauge("countersign_agents", "Agents", ["status"])
    pushes.labels("failed")  # shown from now on, with nothing counted yet
    beats = metrics.gauge(
        "countersign_agents_heard",
        "Active agents by what their last heartbeat said; silent: none for 5 minutes",
        ["said"],
    )
    outbox_pending = metrics.gauge("countersign_outbox_pending", "Committed events not yet published")

    fleet = service.connection("registry", settings.nats_agents_creds_file)
    system = service.connection("registry", settings.nats_system_creds_file)
    store, people_store = Store(service.db), PeopleStore(service.db)
    changed = asyncio.Event()
    outbox = Outbox(store, service.bus, failpoints, log)
    agents_shown = Projection(
        AGENTS,
        Lock.AGENTS,
        AgentRecords(),
        str,
        store,
        service.projector(AGENTS),
        core,
        settings.projection_check_s,
        failpoints,
        log,
    )
    people_shown = Projection(
        PEOPLE,
        Lock.PEOPLE,
        people_store,
        person_key,
        store,
        service.projector(PEOPLE),
        core,
        settings.projection_check_s,
        failpoints,
        log,
    )
    revocations = Revocations(
        account.base,
        account.operator_signing,
        store,
        system,
        check_s=settings.account_check_s,
        answer_s=settings.account_push_timeout_s,
        pushes=pushes,
        in_force=revoked,
        log=log,
    )
    heartbeats = Heartbeats(store, fleet, settings.heartbeat_flush_s, received, refused, log)
    gauges = Gauges(store, changed, agents_by_status, outbox_pending, beats)
    aftermath = Aftermath(outbox, agents_shown, people_shown, revocations, changed, failpoints, log)
    agents = AgentCommands(store, outbox, aftermath, heartbeats, account, settings.max_live_credentials, issued)
    people = PeopleCommands(people_store, outbox, aftermath, settings.admin_token_file, log)
    changes = Changes(store, outbox, aftermath)

    # whatever nats-server forgot in a restart is told it again
    core.on_reconnect(outbox.restarted)
    core.on_reconnect(agents_shown.restarted)
    core.on_reconnect(people_shown.restarted)
    system.on_reconnect(revocations.restarted)

    service.on_start(people.ensure_admin)
    service.on_start(revocations.start)
    service.on_start(agents_shown.start)
    service.on_start(people_shown.start)
    service.on_start(heartbeats.start)
    service.ready_check("void NATS users", revocations.unready)
    service.ready_check("bucket agents", agents_shown.unready)
    service.ready_check("bucket people", people_shown.unready)

    service.answer(RegisterAgent, agents.register)
    service.answer(ListAgents, agents.list)
    service.answer(GetAgent, agents.get)
    service.answer(SetAgentStatus, agents.set_status)
    service.answer(IssueCredentials, agents.issue_credentials)
    service.answer(AddPerson, people.add)
    service.answer(RemovePerson, people.remove)
    service.answer(ListPeople, people.list)
    service.answer(PrepareAgents, changes.prepare)
    service.answer(CommitAgents, changes.commit)

    service.background(outbox.run, "outbox")
    service.background(revocations.run, "revocations")
    service.background(agents_shown.run, "bucket agents")
    service.background(people_shown.run, "bucket people")
    service.background(heartbeats.run, "heartbeats")
    service.background(gauges.run, "gauges")
    service.on_stop(heartbeats.stop)
    return service
