"""The Slack service as a whole: what is consumed, what is answered, what is said in Slack and heard from it."""

from __future__ import annotations

from countersign_chassis import NO_FAILPOINTS, Failpoints, Service
from countersign_contracts.projection import PEOPLE
from countersign_contracts.slack_commands import HandleSlackRequest

from .alert_intake import AlertIntake
from .app_in_slack import make_app
from .ballots import Ballots
from .calls import Slack
from .commands import SlashCommands
from .intake import Intake
from .more_votes import MoreVotes
from .over_http import OverHttp
from .over_socket import OverSocket
from .people import People
from .poster import Poster
from .refusals import Refusals
from .revoking import Revoking
from .secrets_folder import read_workspace
from .settings import Settings
from .several import SeveralVotes
from .store import Store
from .voting import Voting
from .whispers import Whispers

#: Channels that one replica sends in at once: one that does not answer holds up no other.
_POSTERS = ("poster-1", "poster-2", "poster-3", "poster-4")


def build(settings: Settings, failpoints: Failpoints = NO_FAILPOINTS) -> Service:
    """Wire the service. Nothing connects before ``start``; raises where Slack is not, or half, configured."""
    workspace = read_workspace(settings.slack_folder, settings.slack_mode)
    service = Service("slack", settings, failpoints)
    service.migrations("countersign_slack")
    metrics, log = service.metrics, service.log
    calls = metrics.counter("countersign_slack_calls", "Calls of Slack's Web API", ["method", "result"])
    given_up = metrics.counter("countersign_slack_given_up", "Messages that Slack would not take")
    waiting = metrics.gauge("countersign_slack_waiting", "Messages, updates and lines that are still to be sent")
    oldest = metrics.gauge("countersign_slack_waiting_oldest_seconds", "Age of the oldest of them")
    connected = metrics.gauge("countersign_slack_connected", "Whether the Socket Mode connection stands")
    votes = metrics.counter("countersign_slack_votes", "Votes cast in Slack", ["result"])
    used = metrics.counter("countersign_slack_commands", "Uses of /countersign", ["command"])
    refused = metrics.counter("countersign_slack_refused", "Payloads turned away", ["code"])

    store = Store(service.db)
    people = People(service.mirror(PEOPLE))
    slack = Slack(settings.slack_api_url, workspace.bot_token, settings.slack_timeout_s, calls)
    refusals = Refusals(service.bus, settings.slack_refusals_s, log, refused)
    poster = Poster(settings, store, slack, failpoints, log, given_up, waiting, oldest)
    intake = Intake(
        store,
        service.bus,
        people,
        workspace.channels,
        lambda: settings.slack_team or slack.team,
        poster.wake,
        failpoints,
    )
    alerts = AlertIntake(store, workspace.channels, poster.wake)
    ballots, whispers = Ballots(service.bus, votes), Whispers(slack, log)
    voting = Voting(service.bus, ballots, store, slack, people, whispers, refusals, log)
    more_votes = MoreVotes(service.bus, ballots, people, refusals)
    several_votes = SeveralVotes(service.bus, ballots, slack, people, whispers, refusals, log)
    revoking = Revoking(service.bus, slack, people, whispers, refusals, log)
    commands = SlashCommands(service.bus, people, refusals, used)
    bolt = make_app(
        settings,
        workspace.signing_secret,
        slack,
        voting,
        more_votes,
        several_votes,
        revoking,
        whispers,
        commands,
        refusals,
        log,
    )

    service.on_start(slack.open)
    service.on_stop(slack.close)
    service.on_stop(poster.drain)
    service.on_stop(refusals.flush)
    service.consume("slack-approvals", intake.approvals, max_batch=64)
    service.consume("slack-actions", intake.actions, max_batch=256)
    service.consume("slack-alerts", alerts.alerts, max_batch=64)
    for name in _POSTERS:
        service.background(poster.run, name)
    service.background(poster.count, "count")
    service.background(slack.learn_workspace, "workspace")
    service.background(refusals.run, "refusals")
    if workspace.mode == "socket":
        socket = OverSocket(bolt, workspace.app_token or "", slack, settings.slack_ping_s, log, connected)
        service.background(socket.run, "socket")
        service.on_stop(socket.close)
    else:
        service.answer(HandleSlackRequest, OverHttp(bolt, refusals, log).handle)
    # Slack away is no reason for the others not to work: readiness does not ask for it, people are told
    service.tells("slack", lambda: slack.trouble or "answers")
    return service
