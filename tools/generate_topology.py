"""The page of the topology: streams, consumers, buckets, what each NATS user may do, and which key may sign what."""

from countersign_cli.bootstrap.bus import stream_config
from countersign_cli.bootstrap.material import AGENT_LIMITS, bootstrap_access, observer_access
from countersign_contracts import subjects, topology
from countersign_contracts.command import COMMANDS
from countersign_contracts.event import EVENTS, SERVICES
from countersign_contracts.projection import BUCKETS
from generate_flows import address, commands, events, receivers
from generate_markdown import bullets, code, codes, page, table


def topology_page() -> str:
    """The page."""
    return page(
        "Topology",
        "Two NATS accounts: CORE for the services, AGENTS for agents, so that an agent cannot even address the control"
        " plane. It is data in `libs/contracts` (`topology.py`), applied by one bootstrap step; services bind to it,"
        " compare, and never change it.",
        "## Streams",
        "File storage; no schedules, no rollup. Nothing can be deleted or purged where the record says so.",
        table(
            ("account", "stream", "subjects", "retention", "kept for", "at most", "record"),
            map(_stream, topology.STREAMS),
        ),
        "## Consumers",
        "Durable pull consumers with explicit acks. After its tries a message is in DEADLETTER.",
        table(
            ("stream", "consumer", "service", "filters", "ack wait", "unacked at most"),
            (
                (
                    c.stream,
                    code(c.name),
                    c.service,
                    codes(c.filters),
                    f"{c.ack_wait_s} s",
                    str(c.max_ack_pending),
                )
                for c in topology.CONSUMERS
            ),
        ),
        "## Buckets",
        "Key-value buckets in account CORE, each written by its owner alone; every record is signed.",
        table(
            ("bucket", "owner", "readers", "record"),
            ((code(b.name), b.owner, ", ".join(b.readers), _schema(b.type)) for b in BUCKETS),
        ),
        "## Events",
        table(
            ("event", "subject", "from", "to"),
            (
                (_schema(e.spec.type), code(address(e)), ", ".join(e.spec.emitters), ", ".join(receivers(e)))
                for e in events()
            ),
        ),
        "## Commands",
        table(
            ("command", "subject", "from", "to", "answered within"),
            (
                (
                    _schema(c.rpc.type),
                    code(c.rpc.subject),
                    ", ".join(c.rpc.callers),
                    c.rpc.service,
                    f"{c.rpc.timeout_s:g} s",
                )
                for c in commands()
            ),
        ),
        "## Keys",
        "Each service has one signing key. The trust bundle lists what each may sign; whoever receives a message"
        " refuses it where the key may not sign its type.",
        *_keys(),
        "## NATS permissions",
        "What the server lets each user do; everything else it refuses.",
        "### agent",
        "Each agent in account AGENTS, by the template of the key that signs agents' users. A connection has at most"
        f" {AGENT_LIMITS.subscriptions} subscriptions, and a message {AGENT_LIMITS.payload_bytes // 1024} KiB.",
        _access(agent_access("<its id>")),
        "### newcomer",
        "Whoever holds the bootstrap credential of a discovery token, in account AGENTS, by the template of the key"
        " that signs these.",
        _access(bootstrap_access("<its token's id>")),
        "### observer",
        "Whoever asks over NATS which agents run, in account AGENTS, by the template of the key that signs these.",
        _access(observer_access("<its id>")),
        *_users(),
    )


def _stream(stream: topology.Stream) -> tuple[str, ...]:
    days, hours = divmod(stream.max_age_s, topology.DAY_S)
    return (
        stream.account,
        code(stream.name),
        codes(stream.subjects),
        {"limits": "limits", "workqueue": "work queue"}[stream.retention],
        f"{days} d" if days else f"{hours // 3600} h",
        f"{stream.max_bytes // topology.MIB} MiB",
        "yes" if stream_config(stream)["deny_delete"] else "",
    )


def _schema(type: str) -> str:
    return f"[{code(type)}](schemas/{type}.json)"


def _keys() -> list[str]:
    parts = []
    for service in SERVICES:
        types = topology.emits(service)
        sent = [f"{code(type)}" for type in sorted(types & EVENTS.keys())]
        asked = [f"{code(type)}" for type in sorted(types & COMMANDS.keys())]
        other = [f"{code(type)}" for type in sorted(types - EVENTS.keys() - COMMANDS.keys())]
        kinds = {"events": sent, "commands": asked, "other": other}
        rows = ((kind, ", ".join(named)) for kind, named in kinds.items() if named)
        parts += [f"### The key of {service}", table(("may sign", "types"), rows)]
    return parts


def agent_access(name: str) -> topology.Access:
    """What the template lets the agent of this id do."""
    return topology.Access(
        tuple(subjects.agent(name, verb) for verb in subjects.AGENT_PUBLISHES),
        (*(f"{subjects.agent(name, verb)}.>" for verb in subjects.AGENT_HEARS), f"{subjects.inbox(name)}.>"),
    )


def _users() -> list[str]:
    parts = []
    for service in SERVICES:
        parts += [f"### {service} in CORE", _access(topology.core_access(service))]
        if there := topology.agents_access(service):
            parts += [f"### {service} in AGENTS", _access(there)]
    return parts


def _access(access: topology.Access) -> str:
    # sorted: the topology has them in the order in which the modules of the contracts were imported
    published = bullets(code(subject) for subject in sorted(access.publish))
    heard = bullets(code(subject) for subject in sorted(access.subscribe))
    return f"May publish:\n\n{published}\n\nMay hear:\n\n{heard}"
