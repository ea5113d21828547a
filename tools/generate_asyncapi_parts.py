"""The parts an AsyncAPI document is put together from: channels, messages, operations, and the references between."""

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]

_SCHEMA_FORMAT = "application/schema+json;version=draft-2020-12"
#: What the variable tokens of addresses stand for.
_PARAMETERS = {
    "agent_id": "the agent's id; in account AGENTS the server sees to it that it is the sender's own",
    "approval_id": "the approval's id",
    "consumer": "the consumer whose message exhausted its tries",
    "inbox": "chosen by whoever asks",
    "key": "what the record is about: an agent's or a tool's name, a stop's id, the SHA-256 of a person's name",
    "order": "kept free for orders",
    "request_id": "the action's id, a UUID that the agent chose",
    "stream": "the stream of the message that exhausted its tries",
}


def schema_file(name: str) -> Json:
    """A payload that one of the generated JSON Schemas describes."""
    return {"schemaFormat": _SCHEMA_FORMAT, "schema": {"$ref": f"./schemas/{name}.json"}}


def address_parameters(address: str) -> Json:
    """The parameters that stand in an address."""
    names = [part.strip("{}") for part in address.split(".") if part.startswith("{")]
    return {name: {"description": _PARAMETERS[name]} for name in names}


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
            token = "{agent_id}" if user == "agent" else user
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
        reply: tuple[str, str] | None = None,
        **more: Any,
    ) -> None:
        """What `who` does with every message of a channel; `reply` is whose inbox the answer goes to, and which."""
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
                "messages": [_of(inbox, reply[1])],
            }
        self.operations[name] = operation | more


def _message(name: str) -> Json:
    return {"$ref": f"#/components/messages/{name}"}


def _of(channel: str, message: str) -> Json:
    return {"$ref": f"#/channels/{channel}/messages/{message}"}
