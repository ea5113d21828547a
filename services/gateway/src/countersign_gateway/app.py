"""The gateway as a whole: what connects, what is consumed, what is served."""

from __future__ import annotations

from countersign_chassis import NO_FAILPOINTS, Failpoints, Service
from countersign_chassis.sealing import DigestKey, SealKey, read_key
from countersign_chassis.stored import StoredMessages
from countersign_chassis.tls import ServerCertificate
from countersign_contracts.actions import FINAL_STATES
from countersign_contracts.projection import AGENTS, LOGINS, PEOPLE, STOPS, TOOLS

from .acceptance import Acceptance
from .access_tokens import AccessTokens
from .amendments import Amendments
from .approval_rows import ApprovalRows
from .approvals import Approvals
from .cancellation import Cancellation
from .changes import Changes
from .credentials import Credentials
from .dead_letters import STREAM, DeadLetters
from .ended_rows import EndedRows
from .followers import FollowerMetrics
from .following import Following
from .following_agents import FollowingAgents
from .http.app import make_app
from .http.context import Parts
from .ingress import Ingress
from .open_actions import OpenActions
from .outcomes import Outcomes
from .overhearing import Overhearing
from .recording import Recording
from .sealing import Sealing
from .settings import Settings
from .store import Store
from .sweeper import Sweeper
from .telling import Telling
from .waiters import Waiters


def build(settings: Settings, failpoints: Failpoints = NO_FAILPOINTS) -> Service:
    """Wire the gateway. Nothing connects before ``start``."""
    service = Service("gateway", settings, failpoints, hot=3)
    service.migrations("countersign_gateway")
    metrics = service.metrics
    accepted = metrics.counter("countersign_actions_accepted", "Actions accepted", ["channel"])
    ended = metrics.counter("countersign_actions_ended", "Actions that reached a final state", ["state"])
    seconds = metrics.histogram(
        "countersign_action_seconds", "From the acceptance of an action to its end; `held`: people were asked", ["held"]
    )
    refused = metrics.counter("countersign_requests_refused", "Requests refused at the NATS door", ["code"])
    redriven = metrics.counter("countersign_actions_redriven", "Accepted actions sent again by the sweeper")
    by_state = metrics.gauge("countersign_actions_open", "Actions that have not ended", ["state"])
    over = metrics.counter(
        "countersign_actions_over_bound", "Actions not taken since a bound on open ones was reached", ["bound"]
    )
    # shown from now on, with nothing counted yet
    for state in FINAL_STATES:
        ended.labels(state)
    for channel in ("http", "call", "nats"):
        accepted.labels(channel)
    for code in ("internal", "unavailable", "at_capacity"):
        refused.labels(code)
    for bound in ("agent", "agent_held", "everybody"):
        over.labels(bound)
    dead = metrics.gauge("countersign_dead_letters_open", "Dead letters neither redriven nor dropped", ["consumer"])
    oldest_dead = metrics.gauge("countersign_dead_letters_oldest_seconds", "Age of the oldest open dead letter")
    unproven = metrics.gauge("countersign_ends_not_on_record", "Ended actions whose end the ledger does not have")

    agents, people = service.mirror(AGENTS), service.mirror(PEOPLE)
    logins = service.mirror(LOGINS)
    tools, stops = service.mirror(TOOLS), service.mirror(STOPS)
    door = service.connection("gateway", settings.nats_agents_creds_file)
    store = Store(service.db)
    waiters = Waiters(settings.max_waiting)
    open_actions = OpenActions(settings, store, by_state, over)
    sealing = Sealing(
        SealKey(read_key(settings.seal_key_file, "executor's public key")),
        DigestKey(read_key(settings.mark_key_file, "gateway's key of marks")),
    )
    acceptance = Acceptance(
        settings,
        store,
        service.bus,
        service.key,
        tools,
        sealing,
        waiters,
        open_actions,
        failpoints,
        service.log,
        accepted,
        service.tracer,
    )
    cancellation = Cancellation(store, service.bus, waiters)
    ingress = Ingress(
        settings, door, acceptance, store, cancellation, waiters, open_actions, service.key, service.log, refused
    )
    rows = ApprovalRows(service.db, store)
    amendments = Amendments(
        settings, store, rows, service.bus, service.key, open_actions, failpoints, service.log, accepted
    )
    outcomes = Outcomes(
        settings, store, waiters, open_actions, amendments, ingress.announce, failpoints, ended, seconds
    )
    approvals = Approvals(rows, ingress.announce)
    sweeper = Sweeper(settings, store, service.bus, cancellation, redriven, service.log)
    overhearing = Overhearing(service.bus.connection, service.trust, store, waiters, service.log)
    followers = FollowerMetrics(metrics)
    following = Following(
        service.bus.connection,
        service.trust,
        settings.max_followers,
        settings.max_untold_events,
        followers,
        service.log,
    )
    following_agents = FollowingAgents(
        door,
        service.bus.connection,
        service.trust,
        settings.max_followers,
        settings.max_untold_agent_news,
        followers,
        service.log,
    )
    recording = Recording(settings, EndedRows(service.db), service.bus, unproven, service.log)
    changes = Changes(service.db, service.bus, tools, agents, people, service.log)
    letters = DeadLetters(StoredMessages(service.bus.connection, STREAM), service.bus, service.trust, dead, oldest_dead)
    parts = Parts(
        settings=settings,
        bus=service.bus,
        store=store,
        acceptance=acceptance,
        cancellation=cancellation,
        waiters=waiters,
        credentials=Credentials(agents, people, AccessTokens(service.trust, logins, people)),
        changes=changes,
        dead_letters=letters,
        following=following,
        following_agents=following_agents,
        telling=Telling(door),
        ingress=ingress,
        agents=agents,
        people=people,
        logins=logins,
        tools=tools,
        stops=stops,
        trust=service.trust,
    )
    about = service.about()
    app = make_app(parts, service.health_routes(), service.log, str(about["version"]))
    certificate = None
    if settings.http_cert_file is not None and settings.http_key_file is not None:
        certificate = ServerCertificate(settings.http_cert_file, settings.http_key_file)
    service.serve(app, settings.http_host, settings.http_port, certificate, check_s=settings.http_cert_check_s)

    service.on_start(open_actions.recount)
    service.on_start(overhearing.start)
    service.on_start(following.start)
    service.on_start(following_agents.start)
    service.on_start(ingress.start)
    # what agents queue is not sealed yet: it may not go on among the dead letters, and so into the ledger
    service.consume_raw(
        "gateway-ingress",
        ingress.queued,
        connection=door,
        max_batch=128,
        concurrency=2,
        bury_body=False,
        room=open_actions.room,
    )
    service.consume("gateway-finals", outcomes.finals, max_batch=256, concurrency=2, opener=overhearing.open)
    # progress may lag a little: most granted actions have ended by then and cost no second write
    service.consume(
        "gateway-progress",
        outcomes.progress,
        max_batch=512,
        linger_s=0.05,
        skip=lambda headers: waiters.has_ended(headers.get("ce-subject")),
    )
    service.consume("gateway-approvals", approvals.progress, max_batch=256)
    service.background(sweeper.run, "sweeper")
    service.background(recording.run, "recording")
    service.background(open_actions.run, "open actions")
    service.background(changes.run, "changes")
    service.background(overhearing.run, "overhearing")
    service.background(letters.run, "dead letters")
    service.on_stop(acceptance.drain)
    service.on_stop(ingress.drain)
    service.on_stop(waiters.release)
    service.on_stop(following.release)
    service.on_stop(following_agents.release)
    return service
