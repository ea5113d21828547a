"""The parts an AsyncAPI document is put together from: channels, messages, operations, and the references between."""

from collections.abc import Iterable, Sequence
from typing import Any

Json = dict[str, Any]

_SCHEMA_FORMAT = "application/schema+json;version=draft-2020-12"
#: What the variable tokens of addresses stand for.
PARAMETERS: Json = {
    "agent_id": {"description": "the agent's id"},
    "agent_type": {"description": "the type of the agents that it is about"},
    "approval_id": {"description": "the approval's id"},
    "configured": {"description": "the agent, or the type of agents, whose layer it is"},
    "standing_id": {"description": "the standing approval's id"},
    "consumer": {"description": "the consumer whose message exhausted its tries"},
    "inbox": {"description": "chosen by whoever asks"},
    "key": {"description": "an agent id, a tool name, a stop id, or the SHA-256 of a person's name"},
    "request_id": {"description": "the action's id, a UUID that the agent chose"},
    "stream": {"description": "the stream of the message that exhausted its tries"},
    "token_id": {"description": "the id of the discovery token that the credential came with"},
}


TEXT: Json = {"type": "string"}
#: The headers of every signed message.
ENVELOPE: Json = {
    "type": "object",
    "description": "CloudEvents 1.0 in binary mode. The signature is Ed25519 (RFC 8032) over these lines, joined by"
    " line feeds: `countersign-event-v1`, ce-id, ce-type, ce-source, ce-subject, ce-time, ce-keyid, and the SHA-256 of"
    " the body in hex.",
    "required": [
        "ce-specversion",
        "ce-id",
        "ce-type",
        "ce-source",
        "ce-subject",
        "ce-time",
        "ce-keyid",
        "ce-signature",
        "content-type",
    ],
    "properties": {
        "ce-specversion": {"const": "1.0"},
        "ce-id": {**TEXT, "description": "a function of what the event is about, so publishing twice is harmless"},
        "ce-type": {**TEXT, "description": "which schema the body has, with its version"},
        "ce-source": {**TEXT, "description": "the service that signed it"},
        "ce-subject": {**TEXT, "description": "what it is about: of an action its request id"},
        "ce-time": {**TEXT, "format": "date-time"},
        "ce-keyid": {**TEXT, "description": "which key of the trust bundle signed it"},
        "ce-signature": {**TEXT, "description": "base64url of the signature's 64 bytes"},
        "content-type": {"const": "application/json"},
        "Nats-Msg-Id": {**TEXT, "description": "equals ce-id: the stream drops repeats"},
        "traceparent": {**TEXT, "description": "W3C Trace Context; not signed"},
    },
}


def schema_file(name: str) -> Json:
    """A payload that one of the generated JSON Schemas describes."""
    return {"schemaFormat": _SCHEMA_FORMAT, "schema": {"$ref": f"./schemas/{name}.json"}}


def signed_headers(type: str, signers: Iterable[str]) -> Json:
    """The headers of a signed message of `type`: the envelope, with the signer as source."""
    sources = [f"/countersign/{service}" for service in signers]
    own = {"ce-type": {"const": type}, "ce-source": {"enum": sources}}
    return {"allOf": [{"$ref": "#/components/schemas/Envelope"}, {"properties": own}]}


def address_parameters(address: str) -> Json:
    """The parameters that stand in an address. Raises LookupError for one that is not described."""
    names = [part.strip("{}") for part in address.split(".") if part.startswith("{")]
    if unknown := [name for name in names if name not in PARAMETERS]:
        raise LookupError(f"what stands for {{{unknown[0]}}} in {address}? Say so in {__file__}")
    return {name: {"$ref": f"#/components/parameters/{name}"} for name in names}


class Document:
    """Collects channels, messages and operations by name, in the order they are first named."""

    def __init__(self) -> None:
        self.channels: Json = {}
        self.messages: Json = {}
        self.operations: Json = {}

    def message(self, name: str, *, title: str, payload: Json, summary: str = "", headers: Json | None = None) -> None:
        """A message that channels may carry."""
        message: Json = {"name": name, "title": title}
        if summary:
            message["summary"] = summary
        if headers:
            message["headers"] = headers
        self.messages[name] = message | {"payload": payload}

    def channel(
        self,
        name: str,
        *,
        server: str,
        address: str,
        messages: Sequence[str],
        parameters: Json | None = None,
        description: str = "",
        **more: Any,
    ) -> None:
        """A subject, with variable tokens as parameters, in one account."""
        channel: Json = {"address": address}
        if description:
            channel["description"] = description
        channel["servers"] = [{"$ref": f"#/servers/{server}"}]
        if parameters:
            channel["parameters"] = parameters
        channel["messages"] = {message: _message(message) for message in messages}
        self.channels[name] = channel | more

    def inbox(self, user: str, server: str, message: str) -> str:
        """The channel of a user's own inbox, which `message` may arrive on; gives its name."""
        name = f"inbox.{user}"
        if name not in self.channels:
            token = {"agent": "{agent_id}", "newcomer": "BOOTSTRAP.{token_id}"}.get(user, user)
            address = f"_INBOX.{token}.{{inbox}}"
            self.channel(
                name,
                server=server,
                address=address,
                parameters=address_parameters(address),
                messages=[],
                description="Where the answers to what was asked arrive; nobody else may listen here.",
            )
        self.channels[name]["messages"][message] = _message(message)
        return name

    def operation(
        self,
        name: str,
        who: str,
        action: str,
        channel: str,
        *,
        reply: tuple[str, ...] | None = None,
        **more: Any,
    ) -> None:
        """What `who` does with every message of a channel; `reply` is whose inbox the answers go to, and which."""
        operation: Json = {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "tags": [{"name": who}],
            "messages": [_of(channel, message) for message in self.channels[channel]["messages"]],
        }
        if reply is not None:
            inbox = f"inbox.{reply[0]}"
            operation["reply"] = {
                "channel": {"$ref": f"#/channels/{inbox}"},
                "messages": [_of(inbox, message) for message in reply[1:]],
            }
        self.operations[name] = operation | more


def _message(name: str) -> Json:
    return {"$ref": f"#/components/messages/{name}"}


def _of(channel: str, message: str) -> Json:
    return {"$ref": f"#/channels/{channel}/messages/{message}"}
