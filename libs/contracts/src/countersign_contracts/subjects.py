"""The subjects of account AGENTS: what an agent may address, and where it hears its own results.

Subjects of account CORE follow from the events (:mod:`.event`) and the commands (:mod:`.command`).
"""

from __future__ import annotations

#: Verbs an agent may publish under ``agents.<its id>.``; ``actions``, ``logs`` and ``metrics`` are kept by streams,
#: ``call``, ``get``, ``list``, ``cancel``, ``renew`` and ``config`` are request-reply, ``heartbeat`` and ``configured``
#: are plain NATS.
AGENT_PUBLISHES = (
    "actions",
    "call",
    "get",
    "list",
    "cancel",
    "heartbeat",
    "renew",
    "config",
    "configured",
    "logs",
    "metrics",
)
#: Verbs an agent may hear under ``agents.<its id>.``, with everything below them.
AGENT_HEARS = ("results", "control")
#: All that whoever holds a bootstrap credential may publish: the registration of an agent (request-reply).
REGISTER = "agents.bootstrap.register"


def agent(agent_id: str, verb: str) -> str:
    """``agents.<agent_id>.<verb>``."""
    return f"agents.{agent_id}.{verb}"


def results(agent_id: str, request_id: str) -> str:
    """Where the gateway tells an agent what becomes of one action."""
    return f"agents.{agent_id}.results.{request_id}"


def inbox(name: str) -> str:
    """The inbox prefix of a user; everyone has an own one, so nobody hears another's replies."""
    return f"_INBOX.{name}"


def bootstrap_inbox(name: str) -> str:
    """The inbox prefix of a bootstrap credential: no agent's, since agents' ids are in lower case."""
    return f"_INBOX.BOOTSTRAP.{name}"


def observer_inbox(name: str) -> str:
    """The inbox prefix of who may ask for services: no agent's, as :func:`bootstrap_inbox`."""
    return f"_INBOX.OBSERVER.{name}"


def agent_of(subject: str) -> str:
    """The agent id in a subject of account AGENTS; the server made sure that it is the publisher's."""
    return subject.split(".", 2)[1]
