"""The registry as a whole: what connects, what is answered, what runs beside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import get_args

from countersign_chassis import NO_FAILPOINTS, Failpoints, Service
from countersign_chassis.at_rest import RestKeys
from countersign_chassis.sealing import DigestKey, read_keys
from countersign_contracts.agent_commands import DeleteAgent, UpdateAgent
from countersign_contracts.agent_config import (
    ConfigHistory,
    GetConfig,
    ReportConfigured,
    RollBackConfig,
    SetConfig,
)
from countersign_contracts.alerts import AcknowledgeAlert, GetAlert, ListAlertRules, ListAlerts, RemoveAlertRule
from countersign_contracts.commands import (
    CommitAgents,
    GetAgent,
    IssueCredentials,
    ListAgents,
    PrepareAgents,
    RegisterAgent,
    SetAgentStatus,
)
from countersign_contracts.custom_roles import ListRoles, RemoveRole
from countersign_contracts.enrolment import (
    ChallengeAgent,
    CreateDiscoveryToken,
    ListDiscoveryTokens,
    OrderAgents,
    RegisterWithToken,
    RenewCredentials,
    RevokeDiscoveryToken,
)
from countersign_contracts.fleet import person_key
from countersign_contracts.logins import EndLogin, ListLogins, LogIn, LoginEnd, RefreshLogin
from countersign_contracts.model import now
from countersign_contracts.observation import IssueObserver, ListObservers, RevokeObserver
from countersign_contracts.packages import ListPackages
from countersign_contracts.people_commands import (
    AddPerson,
    ConfirmEnrolment,
    ConfirmTotp,
    ListPeople,
    RemoveChannel,
    RemovePerson,
    RemoveTotp,
    SetGroups,
    SetRoles,
    StartEnrolment,
    StartTotp,
    VerifyTotp,
)
from countersign_contracts.projection import AGENTS, LOGINS, PEOPLE, Bucket
from countersign_contracts.provider_commands import DescribeProvider, LogInWithProvider
from countersign_contracts.telemetry import ReadHealth, ReadLogs, ReadMetrics

from .aftermath import Aftermath
from .agent_work import AgentWork
from .agents import AgentCommands
from .alert_commands import AlertCommands
from .alert_store import AlertStore
from .changes import Changes
from .codes_store import CodesStore
from .config_store import ConfigStore
from .configurations import Configurations
from .doors import Doors
from .enrolling import Enrolment
from .enrolment import EnrolmentCommands
from .enrolment_store import EnrolmentStore
from .evaluating import Evaluating
from .fresh_logins import FreshLogins
from .gauges import Gauges
from .heartbeats import Heartbeats
from .login_store import LoginStore
from .logins import LoginCommands, LoginEnds
from .nats_users import AgentsAccount
from .observers import ObserverCommands
from .one_time_codes import OneTimeCodes
from .orders import Orders
from .outbox import Outbox
from .package_store import PackageStore
from .people import PeopleCommands
from .people_store import PeopleStore
from .person_changes import PersonChanges
from .phase_store import PhaseStore
from .presence import Presence
from .projections import Projection, Rows
from .provider import OpenIdProvider
from .provider_logins import ProviderLogins
from .provider_store import ProviderStore
from .revocations import Revocations
from .role_store import RoleStore
from .roles import RoleChanges, RoleCommands
from .scanning import Discovery, Folders
from .service_api import ServiceApi
from .settings import Settings
from .store import AgentRecords, Lock, Store
from .telemetry_days import TelemetryDays
from .telemetry_intake import TelemetryIntake
from .telemetry_pages import TelemetryPages
from .telemetry_reading import TelemetryReading
from .telemetry_store import TelemetryStore
from .tokens import TokenCommands
from .upkeep_commands import Upkeep


def build(settings: Settings, failpoints: Failpoints = NO_FAILPOINTS) -> Service:
    """Wire the registry. Nothing connects before ``start``.

    Raises :class:`CountersignError` naming a key file that is missing or holds something else.
    """
    service = Service("registry", settings, failpoints)
    service.migrations("countersign_registry")
    account = AgentsAccount.of(settings)
    code_keys = read_keys(settings.codes_key_file, "key of one-time codes")
    metrics, log, core = service.metrics, service.log, service.bus.connection
    issued = metrics.counter("countersign_credentials_issued", "Credentials issued to agents", ["kind"])
    registrations = metrics.counter("countersign_registrations", "Agents that registered with a token", ["result"])
    received = metrics.counter("countersign_heartbeats_received", "Heartbeats of agents taken")
    refused = metrics.counter("countersign_heartbeats_refused", "Heartbeats of agents refused", ["code"])
    pushes = metrics.counter("countersign_account_pushes", "Pushes of account AGENTS to nats-server", ["result"])
    revoked = metrics.gauge("countersign_nats_users_revoked", "NATS users that nats-server was told to refuse")
    codes_refused = metrics.counter(
        "countersign_codes_refused", "Enrolment codes and one-time codes refused", ["kind", "code"]
    )
    logins_ended = metrics.counter(
        "countersign_logins_ended",
        "Logins of people that ended before their time; `reused`: a refresh token was copied",
        ["reason"],
    )
    for reason in get_args(LoginEnd):
        logins_ended.labels(reason)
    agents_by_status = metrics.gauge("countersign_agents", "Agents", ["status"])
    agents_by_phase = metrics.gauge(
        "countersign_agents_seen", "Agents that are not revoked, by what they are seen to do", ["phase"]
    )
    phase_changes = metrics.counter(
        "countersign_agent_phase_changes", "Changes of what agents are seen to do", ["phase"]
    )
    configured = metrics.counter("countersign_configurations_said", "What agents said of a configuration", ["result"])
    pushes.labels("failed")  # shown from now on, with nothing counted yet
    outbox_pending = metrics.gauge("countersign_outbox_pending", "Committed events not yet published")

    fleet = service.connection("registry", settings.nats_agents_creds_file)
    system = service.connection("registry", settings.nats_system_creds_file)
    store, people_store = Store(service.db), PeopleStore(service.db)
    changed = asyncio.Event()
    outbox = Outbox(store, service.bus, failpoints, log)
    login_store = LoginStore(service.db)

    def projection(bucket: Bucket, lock: Lock, rows: Rows, key: Callable[[str], str]) -> Projection:
        check_s, projector = settings.projection_check_s, service.projector(bucket)
        return Projection(bucket, lock, rows, key, store, projector, core, check_s, failpoints, log)

    agents_shown = projection(AGENTS, Lock.AGENTS, AgentRecords(), str)
    people_shown = projection(PEOPLE, Lock.PEOPLE, people_store, person_key)
    logins_shown = projection(LOGINS, Lock.LOGINS, login_store, person_key)
    all_shown = {"bucket agents": agents_shown, "bucket people": people_shown, "bucket logins": logins_shown}
    revocations = Revocations(
        account,
        settings,
        store,
        system,
        check_s=settings.account_check_s,
        answer_s=settings.account_push_timeout_s,
        pushes=pushes,
        in_force=revoked,
        log=log,
    )
    presence = Presence(service.db, PhaseStore(service.db), outbox, fleet, phase_changes, agents_by_phase)
    heartbeats = Heartbeats(store, fleet, presence, settings.heartbeat_flush_s, received, refused, log)
    gauges = Gauges(store, changed, agents_by_status, outbox_pending)
    aftermath = Aftermath(outbox, agents_shown, people_shown, logins_shown, revocations, changed, failpoints, log)
    agents = AgentCommands(store, outbox, aftermath, heartbeats, account, settings.max_live_credentials, issued)
    upkeep = Upkeep(store, outbox, aftermath, heartbeats)
    codes, person_changes = CodesStore(), PersonChanges(people_store, outbox, aftermath)
    fresh = FreshLogins(login_store, now)
    login_ends = LoginEnds(login_store, outbox, logins_ended)
    role_store = RoleStore(service.db)
    roles = RoleCommands(role_store, person_changes, outbox)
    provider_store = ProviderStore()
    people = PeopleCommands(
        people_store, codes, roles, provider_store, login_ends, person_changes, fresh, settings.admin_token_file, log
    )
    logins = LoginCommands(
        login_store,
        people_store,
        login_ends,
        outbox,
        aftermath,
        service.key,
        access_s=settings.access_token_s,
        login_s=settings.login_s,
        clock=now,
    )
    provider_logins = ProviderLogins(
        _provider(settings),
        provider_store,
        people_store,
        codes,
        person_changes,
        roles,
        login_ends,
        logins,
        person_claim=settings.oidc_person_claim,
        groups_claim=settings.oidc_groups_claim,
        roles_of_groups=settings.oidc_roles_of_groups,
        clock=now,
    )
    channels = EnrolmentCommands(store, codes, person_changes, fresh, DigestKey(code_keys[0]), codes_refused, now)
    one_time_codes = OneTimeCodes(codes, person_changes, fresh, RestKeys(code_keys), codes_refused, now)
    alert_store = AlertStore(service.db)
    alerts = AlertCommands(store, alert_store, outbox)
    evaluating = Evaluating(store, alert_store, outbox, fleet, settings, metrics, failpoints, now, log)
    role_changes = RoleChanges(role_store, people_store, outbox)
    changes = Changes(store, alert_store, people_store, role_store, role_changes, outbox, aftermath)
    orders = Orders(store, outbox, aftermath)
    enrolments = EnrolmentStore(service.db)
    tokens = TokenCommands(store, enrolments, outbox, aftermath, account)
    enrolment = Enrolment(
        store,
        enrolments,
        outbox,
        aftermath,
        account,
        lifetime_s=settings.credentials_lifetime_s,
        come_back_within_s=settings.come_back_within_s,
        registered=registrations,
        issued=issued,
    )
    configurations = Configurations(store, ConfigStore(service.db), outbox, fleet, settings.agent_config, configured)
    doors = Doors(fleet, enrolment, configurations, log)
    observers = ObserverCommands(store, service.db, outbox, aftermath, account)
    services = ServiceApi(service.db, fleet, heartbeats, log)
    discovery = Discovery(
        Folders(settings.agents_dirs),
        store,
        PackageStore(service.db),
        outbox,
        settings.agents_dirs_every_s,
        log,
    )

    work, kept = AgentWork(metrics, service.db), TelemetryStore(service.db)
    days = TelemetryDays(store, kept, {"agent_log": settings.log_days, "agent_metrics": settings.metrics_days}, log)
    intake = TelemetryIntake(kept, days, work, settings.telemetry_bytes_per_s, failpoints, log)
    reading = TelemetryReading(store, TelemetryPages(service.db), heartbeats)

    # whatever nats-server forgot in a restart is told it again
    core.on_reconnect(outbox.restarted)
    for shown in all_shown.values():
        core.on_reconnect(shown.restarted)
    system.on_reconnect(revocations.restarted)

    service.on_start(people.ensure_admin)
    service.on_start(revocations.start)
    for shown in all_shown.values():
        service.on_start(shown.start)
    service.on_start(heartbeats.start)
    service.on_start(doors.start)
    service.on_start(days.start)
    service.on_start(services.start)
    service.ready_check("void NATS users", revocations.unready)
    for bucket, shown in all_shown.items():
        service.ready_check(bucket, shown.unready)

    service.answer(RegisterAgent, agents.register)
    service.answer(ListAgents, agents.list)
    service.answer(GetAgent, agents.get)
    service.answer(SetAgentStatus, agents.set_status)
    service.answer(IssueCredentials, agents.issue_credentials)
    service.answer(UpdateAgent, upkeep.update)
    service.answer(DeleteAgent, upkeep.delete)
    service.answer(OrderAgents, orders.order)
    service.answer(GetConfig, configurations.get)
    service.answer(ConfigHistory, configurations.history)
    service.answer(SetConfig, configurations.set)
    service.answer(RollBackConfig, configurations.roll_back)
    service.answer(ReportConfigured, configurations.report)
    service.answer(RegisterWithToken, enrolment.register)
    service.answer(ChallengeAgent, enrolment.challenge)
    service.answer(RenewCredentials, enrolment.renew)
    service.answer(ListPackages, discovery.list)
    service.answer(CreateDiscoveryToken, tokens.create)
    service.answer(ListDiscoveryTokens, tokens.list)
    service.answer(RevokeDiscoveryToken, tokens.revoke)
    service.answer(IssueObserver, observers.issue)
    service.answer(ListObservers, observers.list)
    service.answer(RevokeObserver, observers.revoke)
    service.answer(AddPerson, people.add)
    service.answer(RemovePerson, people.remove)
    service.answer(ListPeople, people.list)
    service.answer(LogIn, logins.log_in)
    service.answer(RefreshLogin, logins.refresh)
    service.answer(DescribeProvider, provider_logins.describe)
    service.answer(LogInWithProvider, provider_logins.log_in)
    service.answer(ListLogins, logins.listed)
    service.answer(EndLogin, logins.end)
    service.answer(SetGroups, people.set_groups)
    service.answer(SetRoles, people.set_roles)
    service.answer(ListRoles, roles.list)
    service.answer(RemoveRole, roles.remove)
    service.answer(StartEnrolment, channels.start)
    service.answer(ConfirmEnrolment, channels.confirm)
    service.answer(RemoveChannel, channels.remove)
    service.answer(StartTotp, one_time_codes.start)
    service.answer(ConfirmTotp, one_time_codes.confirm)
    service.answer(VerifyTotp, one_time_codes.verify)
    service.answer(RemoveTotp, one_time_codes.remove)
    service.answer(PrepareAgents, changes.prepare)
    service.answer(CommitAgents, changes.commit)

    service.answer(ListAlerts, alerts.list)
    service.answer(GetAlert, alerts.get)
    service.answer(AcknowledgeAlert, alerts.acknowledge)
    service.answer(ListAlertRules, alerts.rules)
    service.answer(RemoveAlertRule, alerts.remove_rule)
    service.answer(ReadLogs, reading.logs)
    service.answer(ReadMetrics, reading.metrics)
    service.answer(ReadHealth, reading.health)

    # what agents log is theirs: it does not go on among the dead letters, and so into the ledger
    service.consume_raw("registry-logs", intake.logs, connection=fleet, max_batch=32, bury_body=False)
    service.consume_raw("registry-metrics", intake.metrics, connection=fleet, bury_body=False)

    service.background(outbox.run, "outbox")
    service.background(revocations.run, "revocations")
    for bucket, shown in all_shown.items():
        service.background(shown.run, bucket)
    service.background(heartbeats.run, "heartbeats")
    service.background(presence.run, "presence")
    service.background(gauges.run, "gauges")
    service.background(discovery.run, "discovery")
    service.background(evaluating.run, "alerts")
    service.background(days.run, "days of telemetry")
    service.background(work.run, "work of agents")
    service.background(services.run, "service API")
    service.on_stop(heartbeats.stop)
    service.on_stop(doors.drain)
    return service


def _provider(settings: Settings) -> OpenIdProvider | None:
    if settings.oidc_issuer is None or settings.oidc_client_id is None:
        return None
    return OpenIdProvider(
        settings.oidc_issuer,
        settings.oidc_client_id,
        settings.oidc_client_secret_file,
        settings.oidc_scopes,
        allow_private=settings.oidc_allow_private,
    )
