"""The AsyncAPI 3.0 document: every message on the bus, who sends it and who receives it, in both accounts.

It describes the system from outside: an operation's name begins with who performs it. What agents and services may
do at all is the server's to decide; `topology.md` shows those permissions.
"""

from typing import Any

import yaml

import generate_asyncapi_agents as agents
import generate_schemas as schemas
from countersign_contracts.event import SERVICES
from countersign_contracts.projection import BUCKETS, Bucket
from generate_asyncapi_parts import (
    ENVELOPE,
    PARAMETERS,
    TEXT,
    Document,
    Json,
    address_parameters,
    schema_file,
    signed_headers,
)
from generate_flows import address, commands, consumers_of, events
from generate_markdown import prose, words

DESCRIPTION = """\
Countersign's services speak in signed events and commands on a NATS JetStream bus, in account CORE; agents stand in
an account of their own, AGENTS, where each reaches its own subjects alone.

An event is a CloudEvent in binary mode: `ce-` headers and a plain JSON body. It is stored by the JetStream stream that
`x-stream` names, and delivered at least once to the durable consumers that `x-consumers` names. Commands are NATS
request-reply. Every event and command is signed by the service that sends it, and refused by whoever receives it where
the signature does not hold or the key may not sign that type."""


def asyncapi(version: str) -> Json:
    """The whole document."""
    document = Document()
    for event in events():
        _event(document, event)
    for command in commands():
        _command(document, command)
    for bucket in BUCKETS:
        _bucket(document, bucket)
    agents.describe(document)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Countersign",
            "version": version,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            "tags": [{"name": service} for service in (*SERVICES, "agent")],
        },
        "defaultContentType": "application/json",
        "servers": {account: _server(account) for account in ("core", "agents")},
        "channels": document.channels,
        "operations": document.operations,
        "components": {
            "messages": document.messages,
            "schemas": {"Envelope": ENVELOPE},
            "parameters": PARAMETERS,
            "securitySchemes": {"natsJwt": SECURITY},
        },
    }


def text(version: str) -> str:
    """The document as YAML of what JSON has, and nothing else: no anchors, no tags."""
    return yaml.dump(asyncapi(version), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """In Python throughout, since libyaml breaks lines elsewhere; text of several lines as it stands."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Dumper.add_representer(str, _Dumper.represent_str)


SECURITY: Json = {
    "type": "asymmetricEncryption",
    "description": "A NATS user JWT of this account, and the signature of the server's nonce with that user's nkey:"
    " what a credentials file holds.",
}


def _server(account: str) -> Json:
    who = {
        "core": "Account CORE: the services, each with the least subjects its role needs.",
        "agents": "Account AGENTS: each agent under `agents.<its id>.` alone; of the services, gateway and registry.",
    }
    return {
        "host": "{host}:{port}",
        "protocol": "nats",
        "description": who[account],
        "variables": {"host": {"default": "127.0.0.1"}, "port": {"default": "4222"}},
        "security": [{"$ref": "#/components/securitySchemes/natsJwt"}],
    }


def _event(document: Document, event: Any) -> None:
    spec = event.spec
    name = spec.type.removeprefix("countersign.").rpartition(".v")[0]
    document.message(
        spec.type,
        title=event.__name__,
        summary=prose(event.__doc__),
        headers=signed_headers(spec.type, spec.emitters),
        payload=schema_file(spec.type),
    )
    consumers = consumers_of(event)
    document.channel(
        name,
        server="core",
        address=address(event),
        parameters=address_parameters(address(event)),
        messages=[spec.type],
        **{"x-stream": spec.stream, "x-consumers": [consumer.name for consumer in consumers]},
    )
    for service in spec.emitters:
        document.operation(f"{service}.sends.{name}", service, "send", name)
    for service in dict.fromkeys(consumer.service for consumer in consumers):
        document.operation(f"{service}.receives.{name}", service, "receive", name)


def _command(document: Document, command: Any) -> None:
    rpc = command.rpc
    name = f"rpc.{rpc.service}.{rpc.verb}"
    reply = schemas.reply_name(rpc.type)
    document.message(
        rpc.type,
        title=command.__name__,
        summary=prose(command.__doc__) or words(command.__name__),
        headers=signed_headers(rpc.type, rpc.callers),
        payload=schema_file(rpc.type),
    )
    document.message(reply, title=f"{command.__name__}Reply", payload=schema_file(reply))
    document.channel(name, server="core", address=rpc.subject, messages=[rpc.type])
    answered = f"Answered within {rpc.timeout_s:g} s, or given up."
    for caller in rpc.callers:
        document.inbox(caller, "core", reply)
        document.operation(
            f"{caller}.asks.{rpc.service}.{rpc.verb}", caller, "send", name, reply=(caller, reply), description=answered
        )
    for caller in rpc.callers:
        document.operation(
            f"{rpc.service}.answers.{rpc.verb}.of.{caller}",
            rpc.service,
            "receive",
            name,
            reply=(caller, reply),
            bindings={"nats": {"queue": rpc.service, "bindingVersion": "0.1.0"}},
        )


def _bucket(document: Document, bucket: Bucket) -> None:
    name = f"kv.{bucket.name}"
    record = schema_file(bucket.type)["schema"]
    document.message(
        bucket.type,
        title=bucket.model.__name__,
        summary=f"A record of bucket `{bucket.name}`, signed by {bucket.owner} over bucket, key and body.",
        payload={
            "schemaFormat": schema_file(bucket.type)["schemaFormat"],
            "schema": {
                "type": "object",
                "required": ["keyid", "signature", "body"],
                "properties": {
                    "keyid": {**TEXT, "description": "which key of the trust bundle signed it"},
                    "signature": {**TEXT, "description": "base64url of the Ed25519 signature"},
                    "body": {**TEXT, "contentMediaType": "application/json", "contentSchema": record},
                },
            },
        },
    )
    document.channel(
        name,
        server="core",
        address=f"$KV.{bucket.name}.{{key}}",
        parameters=address_parameters("{key}"),
        messages=[bucket.type],
        description=f"NATS key-value bucket `{bucket.name}`; the newest record of each key.",
        **{"x-stream": f"KV_{bucket.name}"},
    )
    document.operation(f"{bucket.owner}.sends.{name}", bucket.owner, "send", name)
    for reader in bucket.readers:
        document.operation(f"{reader}.receives.{name}", reader, "receive", name)
