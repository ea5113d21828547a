"""Account AGENTS in the AsyncAPI document: what an agent may say, and what it hears."""

import generate_schemas as schemas
from countersign_contracts import subjects, topology
from generate_asyncapi_parts import Document, Json, address_parameters, schema_file, signed_headers
from generate_flows import covers, subject_pattern

_NOTHING = "countersign.nothing"
#: Every verb an agent may publish: what is said there, and by which message.
_SAID: dict[str, tuple[str, str]] = {
    "actions": (
        "Asks for an action. The PubAck says that it is queued; `accepted`, then the outcome, follow on the results"
        " subject. Repeat with the same request id until `accepted` is heard.",
        schemas.SUBMISSION,
    ),
    "call": ("Asks for an action and waits for its outcome.", schemas.SUBMISSION),
    "get": ("Asks what became of one of its own actions.", schemas.LOOKUP),
    "list": ("Asks for its own actions, by session and state: what it finds again after a restart.", schemas.LISTING),
    "cancel": ("Withdraws one of its own actions that is not granted yet.", schemas.LOOKUP),
    "renew": (
        "Asks for a nonce, with an empty body; then for credentials that last longer, with the nonce signed by the key"
        " it registered with.",
        schemas.RENEWAL,
    ),
    "config": ("Asks for its configuration, with an empty object.", _NOTHING),
    "configured": ("Says that it applied a configuration, or why not.", schemas.CONFIGURED),
    "heartbeat": ("Says that it lives; kept as last seen.", schemas.HEARTBEAT),
    "logs": ("Tells its log. The registry keeps it; the PubAck says that it is queued.", schemas.LOGS),
    "metrics": ("Tells of its work in the last interval. The registry keeps it.", schemas.METRICS),
}
#: What answers those that are requests.
_ASKED: dict[str, tuple[str, ...]] = {
    "call": (topology.RESULT_TYPE,),
    "get": (topology.RESULT_TYPE,),
    "list": (topology.RESULTS_TYPE,),
    "cancel": (topology.RESULT_TYPE,),
    "renew": (schemas.CHALLENGE, schemas.RENEWED),
    "config": (schemas.CONFIGURATION,),
}
#: Who takes what no stream keeps.
_TAKEN_BY = {
    "call": "gateway",
    "get": "gateway",
    "list": "gateway",
    "cancel": "gateway",
    "heartbeat": "registry",
    "renew": "registry",
    "config": "registry",
    "configured": "registry",
}


def describe(document: Document) -> None:
    """Add the account's channels, messages and operations. Raises LookupError for a verb that is not described."""
    _messages(document)
    for verb in subjects.AGENT_PUBLISHES:
        _said(document, verb)
    document.operation("gateway.sends.agents.heartbeat", "gateway", "send", "agents.heartbeat")
    _heard(document)
    _registers(document)


def _messages(document: Document) -> None:
    document.message(
        schemas.SUBMISSION,
        title="Submission",
        summary="An action that an agent asks for.",
        headers={"type": "object", "properties": {"traceparent": {"type": "string"}}},
        payload=schema_file(schemas.SUBMISSION),
    )
    document.message(
        schemas.LOOKUP, title="Lookup", summary="Which action is meant.", payload=schema_file(schemas.LOOKUP)
    )
    document.message(
        schemas.LISTING, title="Listing", summary="Which actions are meant.", payload=schema_file(schemas.LISTING)
    )
    document.message(
        schemas.HEARTBEAT,
        title="Heartbeat",
        summary="How the agent is; the body may be empty.",
        payload=schema_file(schemas.HEARTBEAT),
    )
    for name, title, summary in (
        (schemas.REGISTRATION, "Registration", "An agent that registers, with a discovery token."),
        (schemas.REGISTERED, "Registered", "Who it is from now on, and its credentials; or the problem."),
        (schemas.CHALLENGE, "Challenge", "A nonce to sign with the agent's key; or the problem."),
        (schemas.RENEWAL, "Renewal", "The nonce, signed; or nothing, to be given one."),
        (schemas.RENEWED, "Renewed", "Credentials that last longer; or the problem."),
        (schemas.CONFIGURATION, "Configuration", "What counts for the agent; or the problem."),
        (schemas.CONFIGURED, "Configured", "What came of a configuration."),
        (schemas.LOGS, "Logs", "Log records; at most 256 KiB together."),
        (schemas.METRICS, "Metrics", "What happened in the last interval; at most 256 KiB."),
    ):
        document.message(name, title=title, summary=summary, payload=schema_file(name))
    document.message(_NOTHING, title="Nothing", summary="An empty object.", payload={"type": "object"})
    document.message(
        topology.RESULT_TYPE,
        title="Result",
        summary="What became of an action so far, or the problem that stood in its way. Signed by the gateway over"
        " ce-subject = the agent's id: what is not, is not a result.",
        headers=signed_headers(topology.RESULT_TYPE, ("gateway",)),
        payload=schema_file(topology.RESULT_TYPE),
    )
    document.message(
        topology.RESULTS_TYPE,
        title="Results",
        summary="Several actions' results, newest first, or the problem that stood in the way. Signed likewise.",
        headers=signed_headers(topology.RESULTS_TYPE, ("gateway",)),
        payload=schema_file(topology.RESULTS_TYPE),
    )


def _said(document: Document, verb: str) -> None:
    if verb not in _SAID:
        raise LookupError(f"what does an agent say on `{verb}`? Say so in {__file__}")
    meaning, message = _SAID[verb]
    name, address = f"agents.{verb}", subjects.agent("{agent_id}", verb)
    kept: Json = {}
    takers = [_TAKEN_BY[verb]] if verb in _TAKEN_BY else []
    for stream in topology.STREAMS:
        if stream.account == "AGENTS" and any(covers(s, subject_pattern(address)) for s in stream.subjects):
            consumers = [consumer for consumer in topology.CONSUMERS if consumer.stream == stream.name]
            kept = {"x-stream": stream.name, "x-consumers": [consumer.name for consumer in consumers]}
            takers += [consumer.service for consumer in consumers]
    document.channel(
        name,
        server="agents",
        address=address,
        parameters=address_parameters(address),
        messages=[message],
        description=meaning,
        **kept,
    )
    reply = None
    if verb in _ASKED:
        for answer in _ASKED[verb]:
            document.inbox("agent", "agents", answer)
        reply = ("agent", *_ASKED[verb])
    document.operation(f"agent.sends.{name}", "agent", "send", name, reply=reply)
    for service in takers:
        document.operation(f"{service}.receives.{name}", service, "receive", name, reply=reply)


def _heard(document: Document) -> None:
    results = subjects.results("{agent_id}", "{request_id}")
    document.channel(
        "agents.results",
        server="agents",
        address=results,
        parameters=address_parameters(results),
        messages=[topology.RESULT_TYPE],
        description="Where an agent hears what becomes of an action that it queued, and of a call it did not wait for.",
    )
    document.operation("gateway.sends.agents.results", "gateway", "send", "agents.results")
    document.operation("agent.receives.agents.results", "agent", "receive", "agents.results")
    control = subjects.agent("{agent_id}", "control") + ".config"
    document.channel(
        "agents.control.config",
        server="agents",
        address=control,
        parameters=address_parameters(control),
        messages=[schemas.CONFIGURATION],
        description="Where an agent is sent its configuration when that changes.",
    )
    document.operation("registry.sends.agents.control.config", "registry", "send", "agents.control.config")
    document.operation("agent.receives.agents.control.config", "agent", "receive", "agents.control.config")


def _registers(document: Document) -> None:
    document.channel(
        "agents.register",
        server="agents",
        address=subjects.REGISTER,
        messages=[schemas.REGISTRATION],
        description="Where an agent registers: all that a bootstrap credential may say.",
    )
    document.inbox("newcomer", "agents", schemas.REGISTERED)
    reply = ("newcomer", schemas.REGISTERED)
    document.operation("newcomer.sends.agents.register", "newcomer", "send", "agents.register", reply=reply)
    document.operation("registry.receives.agents.register", "registry", "receive", "agents.register", reply=reply)
