"""The executor as a whole: what connects, what is consumed, what is answered, in what order it stops."""

from __future__ import annotations

import asyncio

from countersign_chassis import NO_FAILPOINTS, Failpoints, Service
from countersign_chassis.sealing import OpenKey, OpenKeys, read_keys
from countersign_contracts.commands import (
    CommitCatalogue,
    GetExecution,
    LiftStop,
    ListStops,
    ListTools,
    LookUpFacts,
    PrepareCatalogue,
    ReconcileAction,
    SetStop,
)
from countersign_contracts.ids import prefixed
from countersign_contracts.projection import AGENTS, STOPS, TOOLS

from .actions import Actions
from .announcer import Announcer
from .caller import Caller
from .calling import Performer
from .catalogue import ToolCatalogue
from .catalogue_store import CatalogueStore
from .confirmations import Confirmations
from .connector import Connector
from .control import Control
from .control_store import ControlStore
from .databases import AWAY
from .executions import Executions
from .facts import Facts
from .grants import Grants
from .measures import Measures
from .opening import Opening
from .outcome import RetryRules
from .probe_store import ProbeStore
from .probing import Probing
from .pulse import Pulse
from .queries import Queries
from .secret_files import SecretFiles
from .settings import Settings
from .slots import Slots
from .stops import Stops


def build(settings: Settings, failpoints: Failpoints = NO_FAILPOINTS) -> Service:
    """Wire the executor.

    Nothing connects before ``start``; the secrets are read here, so that a bad file is told at once.
    """
    service = Service("executor", settings, failpoints, hot=2)
    service.migrations("countersign_executor")
    log, bus, db = service.log, service.bus, service.db
    measures = Measures.of(service.metrics)
    agents = service.mirror(AGENTS)
    secrets = SecretFiles(settings.secrets_file, log)

    executions = Executions(db, prefixed("own"))
    control_store, catalogue_store = ControlStore(db), CatalogueStore(db)
    stops = Stops()
    pulse = Pulse(executions, control_store, stops, lambda: seldom(), interval_s=settings.heartbeat_s)
    slots = Slots(settings.max_concurrent_calls, settings.max_calls_per_host)
    measures.in_flight.set_function(lambda: slots.taken)

    connector = Connector(
        connect_timeout_s=settings.connect_timeout_s,
        keepalive_s=settings.keepalive_s,
        dns_ttl_s=settings.dns_ttl_s,
    )
    rules = RetryRules(
        first_pause_s=settings.retry_first_pause_s,
        max_pause_s=settings.retry_max_pause_s,
        max_retry_after_s=settings.retry_after_max_s,
        budget_s=settings.retry_budget_s,
    )
    caller = Caller(
        connector,
        rules,
        secrets.present,
        f"countersign/{service.about()['version']}",
        lambda tool: measures.retries.labels(measures.tools.of(tool)).inc(),
    )

    announcer = Announcer(
        control_store,
        bus,
        service.key,
        {
            "tools": (service.projector(TOOLS), lambda: catalogue.records()),
            "stops": (service.projector(STOPS), lambda: control.records()),
        },
        measures,
        log,
        rebuild_interval_s=settings.rebuild_interval_s,
    )
    catalogue = ToolCatalogue(catalogue_store, control_store, secrets.reread, announcer)
    control = Control(control_store, executions, stops, announcer, lease_s=settings.stop_lease_s, log=log)
    facts = Facts(caller, slots, catalogue.get, lambda outcome: measures.facts.labels(outcome).inc())
    performer = Performer(
        caller,
        executions,
        pulse,
        stops,
        bus.publish,
        lease_s=settings.stop_lease_s,
        started_after_s=settings.started_after_s,
        log=log,
    )
    actions = Actions(
        executions=executions,
        control=control_store,
        catalogue=catalogue,
        agents=agents,
        stops=stops,
        facts=facts,
        caller=caller,
        opening=Opening(
            OpenKeys([OpenKey(key) for key in read_keys(settings.open_key_file, "key of sensitive arguments")])
        ),
        performer=performer,
        slots=slots,
        trust=service.trust,
        failpoints=failpoints,
        measures=measures,
        tracer=service.tracer,
        owner_timeout_s=settings.owner_timeout_s,
        log=log,
    )
    confirmations = Confirmations(bus, measures.confirmation, log, patience_s=settings.confirmation_patience_s)
    grants = Grants(
        actions,
        confirmations,
        bus,
        service.key,
        failpoints,
        measures,
        max_in_hand=settings.max_grants_in_hand,
        grace_s=settings.shutdown_grace_s,
        log=log,
    )
    probing = Probing(
        ProbeStore(service.db),
        executions,
        control_store,
        announcer,
        catalogue,
        caller,
        slots,
        measures,
        max_probes=settings.max_probes,
        interval_s=settings.probe_interval_s,
        first_pause_s=settings.probe_first_pause_s,
        max_pause_s=settings.probe_max_pause_s,
        log=log,
    )
    queries = Queries(executions, control_store, announcer, catalogue, facts, measures)

    async def start() -> None:
        await connector.open()
        await confirmations.start()
        await catalogue.load()
        await pulse.beat()

    async def seldom() -> None:
        measures.unknown_open.set(await executions.unknown_open())
        measures.show_stops(stops.in_force())
        await executions.forget_the_dead()
        secrets.reread()

    async def drain() -> None:
        # calls may go on for the grace period: nobody should take this executor for dead meanwhile
        beating = asyncio.create_task(pulse.run())
        try:
            await grants.drain()
        finally:
            beating.cancel()

    async def goodbye() -> None:
        try:
            await executions.say_goodbye()
        except AWAY as error:
            # its claims run out by themselves
            log.warning("could not say goodbye", error=str(error))

    async def buckets_may_be_lost() -> None:
        announcer.everything_is_stale()

    def pulse_stopped() -> str | None:
        silent_s = pulse.age_s()
        return f"no pulse for {silent_s:.0f} s" if silent_s > settings.owner_timeout_s else None

    service.ready_check("PostgreSQL", pulse_stopped)
    bus.connection.on_reconnect(buckets_may_be_lost)
    service.on_start(start)
    service.on_stop(goodbye)
    service.on_stop(connector.close)
    service.on_stop(drain)

    service.answer(PrepareCatalogue, catalogue.prepare)
    service.answer(CommitCatalogue, catalogue.commit)
    service.answer(ListTools, catalogue.listed)
    service.answer(SetStop, control.set_stop)
    service.answer(LiftStop, control.lift_stop)
    service.answer(ListStops, control.list_stops)
    service.answer(GetExecution, queries.get_execution)
    service.answer(ReconcileAction, queries.reconcile)
    service.answer(LookUpFacts, queries.look_up_facts)

    service.consume("executor-actions", grants.granted, max_batch=128)
    service.background(pulse.run, "pulse")
    service.background(announcer.run, "announcer")
    service.background(probing.run, "probes")
    return service
