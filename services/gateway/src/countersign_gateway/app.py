"""The gateway as a whole: what connects, what is consumed, what is served."""

from __future__ import annotations

from countersign_chassis import NO_FAILPOINTS, Failpoints, Service
from countersign_contracts.projection import AGENTS, PEOPLE, STOPS, TOOLS

from .acceptance import Acceptance
from .cancellation import Cancellation
from .changes import Changes
from .credentials import Credentials
from .http.app import make_app
from .http.context import Parts
from .ingress import Ingress
from .outcomes import Outcomes
from .settings import Settings
from .store import Store
from .sweeper import Sweeper
from .waiters import Waiters


def build(settings: Settings, failpoints: Failpoints = NO_FAILPOINTS) -> Service:
    """Wire the gateway. Nothing connects before ``start``."""
    service = Service("gateway", settings, failpoints)
    service.migrations("countersign_gateway")
    metrics = service.metrics
    accepted = metrics.counter("countersign_actions_accepted", "Actions accepted", ["channel"])
    ended = metrics.counter("countersign_actions_ended", "Actions that reached a final state", ["state"])
    refused = metrics.counter("countersign_requests_refused", "Requests refused at the NATS door", ["code"])
    redriven = metrics.counter("countersign_actions_redriven", "Accepted actions sent again by the sweeper")
    open_actions = metrics.gauge("countersign_actions_open", "Actions that have not ended", ["state"])

    agents, people = service.mirror(AGENTS), service.mirror(PEOPLE)
    tools, stops = service.mirror(TOOLS), service.mirror(STOPS)
    door = service.connection("gateway", settings.nats_agents_creds_file)
    store = Store(service.db)
    waiters = Waiters()
    acceptance = Acceptance(
        settings, store, service.bus, service.key, tools, waiters, failpoints, service.log, accepted
    )
    cancellation = Cancellation(store, service.bus, waiters)
    ingress = Ingress(settings, door, acceptance, store, cancellation, waiters, service.key, service.log, refused)
    outcomes = Outcomes(settings, store, waiters, ingress.announce, failpoints, ended)
    sweeper = Sweeper(settings, store, service.bus, cancellation, redriven, open_actions, service.log)
    changes = Changes(service.db, service.bus, tools, agents, service.log)
    parts = Parts(
        settings=settings,
        bus=service.bus,
        store=store,
        acceptance=acceptance,
        cancellation=cancellation,
        waiters=waiters,
        credentials=Credentials(agents, people),
        changes=changes,
        ingress=ingress,
        agents=agents,
        people=people,
        tools=tools,
        stops=stops,
        trust=service.trust,
    )
    about = service.about()
    app = make_app(parts, service.health_routes(), service.log, str(about["version"]))
    service.serve(app, settings.http_host, settings.http_port)

    service.on_start(ingress.start)
    service.consume_raw("gateway-ingress", ingress.queued, connection=door, max_batch=128, concurrency=2)
    service.consume("gateway-finals", outcomes.finals, max_batch=256, concurrency=2)
    # progress may lag a little: most granted actions have ended by then and cost no second write
    service.consume(
        "gateway-progress",
        outcomes.progress,
        max_batch=512,
        linger_s=0.05,
        skip=lambda headers: waiters.has_ended(headers.get("ce-subject")),
    )
    service.background(sweeper.run, "sweeper")
    service.background(changes.run, "changes")
    service.on_stop(acceptance.drain)
    service.on_stop(ingress.drain)
    service.on_stop(waiters.release)
    return service
