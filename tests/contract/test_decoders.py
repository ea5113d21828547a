"""Whatever bytes arrive, a decoder answers with a value or with the errors it declares: never with anything else.

An exception nobody declared is a batch tried again for nothing, a dead letter, or a stack trace to a person. The inputs
are bytes, JSON values, and good documents with one part exchanged, which get further in than chance does.
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from countersign_chassis.natsauth.claims import read_claims
from countersign_chassis.natsauth.keys import KeyPair, NatsAuthError
from countersign_contracts import warrant
from countersign_contracts.actions import Action, ActionRequested
from countersign_contracts.canonical import canonical
from countersign_contracts.catalogue import Document, Profile, Tool, ToolRecord
from countersign_contracts.command import COMMANDS, read_reply
from countersign_contracts.documents import read_documents
from countersign_contracts.envelope import Envelope, open_event, seal_event
from countersign_contracts.errors import CountersignError, Malformed
from countersign_contracts.event import EVENTS
from countersign_contracts.fleet import AgentRecord, Owner
from countersign_contracts.ids import new_id
from countersign_contracts.projection import BUCKETS, open_projection
from countersign_executor.check import catalogue_errors
from countersign_executor.secrets import Secrets
from countersign_gateway.access_tokens import AccessTokens
from countersign_gateway.credentials import Credentials
from countersign_gateway.submission import BusSubmission, Submission, make_action, read_submission, wait_seconds
from countersign_gateway.tracing import traceparent
from countersign_harness.world import AGENTS, PROFILES, TOOLS
from countersign_ledger import SigningKey, TrustBundle, TrustedKey
from countersign_ledger.errors import MalformedError
from countersign_ledger.export import decode_header, decode_item
from countersign_policy.cedar_text import parse
from countersign_policy.cedar_types import Inexact
from countersign_policy.engine import Question, build_engine
from countersign_policy.plan import plan_change
from countersign_policy.policy_set import compile_set
from countersign_policy.tools import compile_tool
from countersign_registry.declarations import plan, read
from countersign_registry.heartbeat import read as read_heartbeat
from countersign_sdk.over_nats import agent_in

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
POLICY = SigningKey.generate("policy")
GATEWAY = SigningKey.generate("gateway")
TRUST = TrustBundle.of(
    "tests",
    [
        TrustedKey(POLICY.kid, "policy", POLICY.public_bytes, frozenset({warrant.TYPE})),
        TrustedKey(GATEWAY.kid, "gateway", GATEWAY.public_bytes, frozenset({ActionRequested.spec.type})),
    ],
)
often = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

TEXT = st.text(max_size=12) | st.sampled_from(["", "\ud800", "\x00", "countersign", "sha256:" + "0" * 64, new_id()])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**53, -(2**63), 2**64, 10**400, 1e300, -0.0, 1e-300])
    | st.floats()
    | TEXT
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every part of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, each in inner for place in places(each, (*at, key)))]


def exchanged(good: Any) -> st.SearchStrategy[Any]:
    """``good`` with one part exchanged for any value, taken away, or with something planted beside it."""

    def build(place: tuple[Any, ...], value: Any, how: str) -> Any:
        if not place:
            return value
        changed = copy.deepcopy(good)
        parent = changed
        for key in place[:-1]:
            parent = parent[key]
        if how == "exchanged":
            parent[place[-1]] = value
        elif how == "taken away":
            del parent[place[-1]]
        elif isinstance(parent, dict):
            parent["planted"] = value
        else:
            parent.append(value)
        return changed

    return st.builds(
        build, st.sampled_from(places(good)), VALUES, st.sampled_from(["exchanged", "taken away", "planted"])
    )


def json_bytes(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """JSON as other writers make it too: NaN, numbers of any size, halves of surrogate pairs."""
    return st.binary(max_size=40) | values.map(lambda value: json.dumps(value).encode())


def declared(call: Callable[[], Any], *errors: type[Exception]) -> None:
    """Call it; only the declared errors may come."""
    try:
        call()
    except errors as error:
        assert str(error), "an error says what is wrong"


def an_action(**args: Any) -> Action:
    return make_action(
        Submission(tool="read_thing", args={}, env="dev", on_behalf_of="person:ann"),
        args or {"thing_id": 1},
        request_id=new_id(),
        agent_id="worker-1",
        tool_version=1,
        at=AT,
    )


ACTION = an_action()
REQUESTED = ActionRequested(action=ACTION, channel="http", credential_id="c")
BODY = json.loads(REQUESTED.to_bytes())
SUBMISSION = {
    "request_id": ACTION.request_id,
    "tool": "read_thing",
    "args": {"thing_id": 1, "more": [1, {"a": None}]},
    "env": "dev",
    "session_id": "s-1",
    "on_behalf_of": ["person:ann", "agent:b"],
    "reason": "r",
    "wait_s": 1.5,
}


# --- what comes over the wire ---------------------------------------------------------------------


@often
@given(json_bytes(exchanged(SUBMISSION) | VALUES))
def test_submissions(raw: bytes) -> None:
    for model in (Submission, BusSubmission):
        try:
            submission = read_submission(raw, model)
            make_action(submission, submission.args, request_id=new_id(), agent_id="a", tool_version=1, at=AT)
        except CountersignError as error:
            assert error.status in (400, 413, 422) and error.detail


@often
@given(st.dictionaries(st.sampled_from(["ce-id", "ce-signature", "ce-type", "ce-keyid", "ce-time"]), TEXT), st.data())
def test_envelopes(changed: dict[str, str], data: st.DataObject) -> None:
    good = seal_event(REQUESTED, time=AT, key=GATEWAY)
    for taken_away in (set(), {data.draw(st.sampled_from(sorted(good.headers())))}):
        headers = {k: v for k, v in (good.headers() | changed).items() if k not in taken_away}
        declared(lambda given=headers: open_event(Envelope.read(given, good.body), TRUST), CountersignError)  # type: ignore[misc]


@often
@given(json_bytes(exchanged(BODY)))
def test_signed_events_with_any_body(raw: bytes) -> None:
    """What the right key signed, but no event: the body is read behind the signature."""
    good = seal_event(REQUESTED, time=AT, key=GATEWAY)
    envelope = Envelope(good.id, good.type, good.source, good.subject, good.time, good.keyid, b"", raw)
    signed = Envelope(**{**_fields(envelope), "signature": GATEWAY.sign(envelope.signing_bytes())})
    declared(lambda: open_event(signed, TRUST), CountersignError)


def _fields(envelope: Envelope) -> dict[str, Any]:
    return {name: getattr(envelope, name) for name in ("id", "type", "source", "subject", "time", "keyid", "body")}


@pytest.mark.parametrize("model", [*EVENTS.values(), *COMMANDS.values(), *(c.reply for c in COMMANDS.values())])
@settings(often, max_examples=12)
@given(raw=json_bytes(VALUES | exchanged(BODY)))
def test_bodies_of_events_commands_and_replies(model: Any, raw: bytes) -> None:
    declared(lambda: model.from_bytes(raw), Malformed)
    declared(lambda: read_reply(raw, model), CountersignError)


@often
@given(json_bytes(exchanged({"keyid": GATEWAY.kid, "signature": "AAAA", "body": "{}"})), st.sampled_from(BUCKETS))
def test_projections(raw: bytes, bucket: Any) -> None:
    declared(lambda: open_projection(bucket, "k", raw, TRUST, bucket.model), CountersignError)


@often
@given(json_bytes(exchanged({"status": "healthy", "version": "1", "load": 0.5, "uptime_s": 3})))
def test_heartbeats(raw: bytes) -> None:
    declared(lambda: read_heartbeat(raw), CountersignError)


# --- the warrant --------------------------------------------------------------------------------------


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@often
@given(
    exchanged({"alg": "EdDSA", "kid": POLICY.kid, "typ": warrant.TYPE}),
    exchanged(
        {
            "iss": warrant.ISSUER,
            "sub": ACTION.agent_id,
            "aud": warrant.AUDIENCE,
            "jti": ACTION.request_id,
            "iat": 1,
            "exp": 2**31,
            "digest": ACTION.digest,
            "policy_version": "v",
            "act": list(ACTION.principal_chain),
        }
    ),
    st.booleans(),
)
def test_warrants(header: Any, claims: Any, good_header: bool) -> None:
    """Signed by the right key throughout, so that what is wrong is only found behind the signature."""
    head = {"alg": "EdDSA", "kid": POLICY.kid, "typ": warrant.TYPE} if good_header else header
    signed = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(claims).encode())}"
    token = f"{signed}.{b64(POLICY.sign(signed.encode()))}"
    declared(lambda: warrant.verify(token, ACTION, at=AT, trust=TRUST), warrant.InvalidWarrant)


@often
@given(TEXT | st.text("abcAB-_.=\u00e9", max_size=60))
def test_tokens_that_are_none(token: str) -> None:
    with pytest.raises(warrant.InvalidWarrant):
        warrant.verify(token, ACTION, at=AT, trust=TRUST)


# --- canonical form and Cedar ---------------------------------------------------------------------------


@often
@given(VALUES)
def test_the_canonical_form(value: Any) -> None:
    try:
        form = canonical(value)
    except Malformed:
        return
    json.loads(form)


def test_the_canonical_form_of_what_nests_without_end() -> None:
    for leaf in (1, 1.5, None):
        value: Any = leaf
        for _ in range(3000):
            value = [value]
        declared(lambda given=value: canonical(given), Malformed)  # type: ignore[misc]


TYPED = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "thing_id": {"type": "integer"},
        "amount": {"type": "number"},
        "to": {"type": ["string", "null"]},
        "ids": {"type": "array", "items": {"type": "integer"}},
        "inner": {"type": "object", "properties": {"n": {"type": "number"}}},
    },
}
CALL: dict[str, Any] = {"method": "GET", "url": "http://example.com/x", "allow_private": True}


def a_tool(arguments: Any) -> ToolRecord:
    tool = {"name": "read_thing", "effect": "read", "idempotent": True, "resource": "things", "arguments": arguments}
    return ToolRecord(tool=Tool.model_validate(tool | {"http": CALL}), version=1, revision=1)


def ask(record: ToolRecord, args: Any, policy: str) -> None:
    """As policy does: valid arguments are asked about, with a policy that looks at them."""
    tool = compile_tool(record)
    if not isinstance(args, dict) or list(tool.errors(args)):
        return
    digest = "sha256:" + "0" * 64
    action = ACTION.model_copy(update={"args": args, "digest": digest})
    agent = AgentRecord(
        agent_id="worker-1",
        name="W",
        owner=Owner(team="ops"),
        profile="worker",
        environments=("dev",),
        status="active",
        revision=1,
    )
    profile = Profile(name="worker", environments=("dev",), tools=("read_thing",))
    written, errors = parse("p.cedar", "p", policy)
    assert not errors
    engine = build_engine(compile_set([profile], written), [record])
    question = Question(action, agent, tool.endpoint, tool.fields(args), "read", "low", False)
    declared(lambda: engine.ask(question, tool), Inexact)
    engine.permitted(question, tool)
    engine.bounds(question)
    engine.listed(question)


LOOKS = """forbid (principal, action, resource)
when { context has args && context.args has thing_id && context.args.thing_id > 5 };"""


@often
@example({"thing_id": 1e300}, False)  # an integer in JSON Schema's eyes, beyond 64 bits
@example({"ids": [1e200]}, True)
@given(exchanged({"thing_id": 1, "amount": 1.5, "to": "x", "ids": [1], "inner": {"n": 2}}), st.booleans())
def test_the_context_that_cedar_is_asked_with(args: Any, looked_at: bool) -> None:
    try:
        digestible = canonical(args)
    except Malformed:
        return
    ask(a_tool(TYPED), json.loads(digestible), LOOKS if looked_at else "permit (principal, action, resource);")


@often
@given(exchanged(TYPED), exchanged({"thing_id": 1, "amount": 1.5}))
def test_any_schema_of_a_tool(schema: Any, args: Any) -> None:
    try:
        record = a_tool(schema)
    except ValueError:
        return
    ask(record, args, "permit (principal, action, resource);")


# --- declared files -----------------------------------------------------------------------------------------


GOOD = [value for text in (TOOLS, PROFILES, AGENTS) for value in yaml.safe_load_all(text.replace("URL", "http://x"))]
CEDAR = 'forbid (principal, action == Action::"read_thing", resource) when { context.args.thing_id > 5 };'


def cut(text: str) -> st.SearchStrategy[str]:
    """``text`` with a piece taken out and another put in."""
    return st.builds(
        lambda start, length, put: text[:start] + put + text[start + length :],
        st.integers(0, len(text)),
        st.integers(0, 12),
        st.text(max_size=6) | st.sampled_from(["&a", "*a", "!!x", "? ", "- - -", "{", "---", "\t", "\x00", "\ud800"]),
    )


DOCUMENTS = st.lists(
    st.one_of(
        st.tuples(st.just("a.yaml"), st.sampled_from(GOOD).flatmap(exchanged).map(json.dumps)),
        st.tuples(st.just("b.yaml"), st.sampled_from([TOOLS, PROFILES, AGENTS]).flatmap(cut)),
        st.tuples(st.sampled_from(["c.cedar", "agent.cedar", "é.cedar", ".cedar", ""]), cut(CEDAR)),
        st.tuples(TEXT, TEXT),
    ),
    min_size=1,
    max_size=3,
)


@settings(often, max_examples=150)
@given(DOCUMENTS)
def test_declared_files(files: list[tuple[str, str]]) -> None:
    """As `countersign apply` sends them: the gateway reads the request, then each owner the files."""
    documents = []
    for path, text in files:
        try:
            documents.append(Document.model_validate({"path": path, "text": text}))
        except ValueError:
            continue
    parsed, errors = read_documents(documents)
    tools = {item.name: (item, item.model) for item in parsed if isinstance(item.model, Tool)}
    errors += catalogue_errors(tools, {}, Secrets())
    errors += plan_change(documents, (), {}).errors
    errors += plan(read(documents), {}).errors
    assert all(error.message for error in errors)


# --- credentials, and what else is read from files and headers ----------------------------------------------


class _Nobody:
    loaded = True

    def values(self) -> list[str]:
        return ["somebody"]

    def subscribe(self, *_: Any) -> None:
        """Holds no record."""


@often
@given(TEXT | TEXT.map(lambda token: f"Bearer {token}"))
def test_credentials_in_a_header(authorization: str) -> None:
    nobody: Any = _Nobody()
    # a header is Latin-1 by the time it is read
    header = authorization.encode("utf-8", "replace").decode("latin-1")
    with pytest.raises(CountersignError) as refused:
        Credentials(nobody, nobody, AccessTokens(TRUST, nobody, nobody)).identify(header, AT)
    assert refused.value.code == "unauthenticated"


@often
@example("wait=nan")
@example("wait=-1")
@given(TEXT | st.floats().map(lambda n: f"wait={n}") | TEXT.map(lambda t: f"wait={t}"))
def test_other_headers(header: str) -> None:
    traceparent(header)
    try:
        seconds = wait_seconds(header, default=25, longest=300)
    except Malformed:
        return
    assert seconds is None or 0 <= seconds <= 300


@often
@given(
    TEXT
    | st.binary(max_size=60).map(lambda raw: f"x.{b64(raw)}.y")
    | VALUES.map(lambda v: f"a.{b64(json.dumps(v).encode())}.b")
)
def test_credentials_files(tmp_path_factory: pytest.TempPathFactory, jwt: str) -> None:
    declared(lambda: read_claims(jwt), NatsAuthError)
    declared(lambda: KeyPair.from_seed(jwt), NatsAuthError)
    file = Path(tmp_path_factory.getbasetemp()) / "fuzzed.creds"
    text = f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    declared(lambda: agent_in(file), CountersignError)


@often
@given(json_bytes(exchanged(json.loads(TRUST.to_json())) | exchanged(json.loads(POLICY.to_json()))))
def test_keys_and_trust_bundles(raw: bytes) -> None:
    declared(lambda: TrustBundle.from_json(raw), MalformedError)
    declared(lambda: SigningKey.from_json(raw), MalformedError)


@often
@given(json_bytes(VALUES | VALUES.map(lambda v: {"entry": v}) | VALUES.map(lambda v: {"checkpoint": v})))
def test_lines_of_an_export(raw: bytes) -> None:
    declared(lambda: decode_header(raw), MalformedError)
    declared(lambda: decode_item(raw, 1), MalformedError)
