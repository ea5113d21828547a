"""What may be done to an agent, and what follows: rules, without any server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_contracts.commands import IssueCredentials, SetAgentStatus
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import (
    AgentRecord,
    AgentStatusChanged,
    Credential,
    CredentialsIssued,
    CredentialsRevoked,
    Owner,
)
from countersign_registry.lifecycle import Agent, Change, expiry, issue, revoked_before, set_status
from countersign_registry.listing import fitting

AT = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
HTTP = Credential(credential_id="crd_http", kind="http", sha256="00")
NATS = Credential(credential_id="crd_nats", kind="nats", nkey="U0")


def agent(status: Any = "active", *credentials: Credential, revision: int = 1) -> Agent:
    record = AgentRecord(
        agent_id="alpha",
        name="Alpha",
        owner=Owner(team="support"),
        profile="support",
        environments=("dev",),
        status=status,
        credentials=credentials,
        revision=revision,
    )
    return Agent(record, created_at=AT, created_by="ann", status_at=AT, status_by="bob", status_reason="left")


def order(status: Any) -> SetAgentStatus:
    return SetAgentStatus(agent_id="alpha", status=status, reason="because", by="ann")


def wish(*kinds: Any, replace: bool = False) -> IssueCredentials:
    return IssueCredentials(agent_id="alpha", kinds=kinds, replace=replace, by="ann")


@pytest.mark.parametrize(
    ("before", "wanted", "outcome"),
    [
        ("active", "active", None),
        ("active", "paused", "paused"),
        ("active", "revoked", "revoked"),
        ("paused", "active", "active"),
        ("paused", "paused", None),
        ("paused", "revoked", "revoked"),
        ("revoked", "active", CountersignError),
        ("revoked", "paused", CountersignError),
        ("revoked", "revoked", None),
    ],
)
def test_every_status_order(before: Any, wanted: Any, outcome: Any) -> None:
    if outcome is CountersignError:
        with pytest.raises(
            CountersignError, match=r"revoked by bob at 2026-03-01 12:00 UTC \(left\), which is for good"
        ):
            set_status(agent(before), order(wanted), AT, "evt_1")
        return
    change = set_status(agent(before), order(wanted), AT, "evt_1")
    if outcome is None:
        assert change is None
        return
    assert change is not None
    assert (change.record.status, change.record.revision) == (outcome, 2)
    (told,) = change.events
    assert isinstance(told, AgentStatusChanged)
    assert (told.before, told.status, told.event_id()) == (before, outcome, "alpha.status_changed.evt_1")


def test_revoking_voids_every_credential_and_pausing_none() -> None:
    paused = set_status(agent("active", HTTP, NATS), order("paused"), AT, "evt_1")
    assert paused is not None
    assert (paused.voided, paused.record.credentials) == ((), (HTTP, NATS))
    revoked = set_status(agent("active", HTTP, NATS), order("revoked"), AT, "evt_1")
    assert revoked is not None
    assert (revoked.voided, revoked.record.credentials) == ((HTTP, NATS), ())
    assert revoked.voids_nats_users
    assert [type(event) for event in revoked.events] == [AgentStatusChanged, CredentialsRevoked]


@pytest.mark.parametrize("status", ["active", "paused"])
def test_new_credentials_join_the_others_or_replace_those_of_their_kind(status: Any) -> None:
    new = Credential(credential_id="crd_new", kind="http", sha256="11")
    joined = issue(agent(status, HTTP, NATS), wish("http"), (new,), AT, "evt_1", 2)
    assert joined.record.credentials == (HTTP, NATS, new)
    assert [type(event) for event in joined.events] == [CredentialsIssued]
    replaced = issue(agent(status, HTTP, NATS), wish("http", replace=True), (new,), AT, "evt_1", 1)
    assert replaced.record.credentials == (NATS, new)
    assert replaced.voided == (HTTP,)
    assert not replaced.voids_nats_users
    assert [type(event) for event in replaced.events] == [CredentialsRevoked, CredentialsIssued]


def test_credentials_of_one_kind_are_bounded_and_the_other_kind_is_free() -> None:
    new = Credential(credential_id="crd_new", kind="http", sha256="11")
    with pytest.raises(CountersignError, match="has 1 live http credentials"):
        issue(agent("active", HTTP), wish("http"), (new,), AT, "evt_1", 1)
    assert isinstance(issue(agent("active", NATS), wish("http"), (new,), AT, "evt_1", 1), Change)


@given(st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)), st.integers(1, 31_536_000))
def test_a_lifetime_ends_in_a_whole_second_of_which_the_jwt_has_one_at_least(at: datetime, lifetime_s: int) -> None:
    end = expiry(at, lifetime_s)
    assert end is not None
    assert end.microsecond == 0
    assert int(end.timestamp()) - int(at.timestamp()) == lifetime_s


def test_credentials_without_a_lifetime_do_not_end() -> None:
    assert expiry(AT, None) is None


@given(st.integers(-3600, 3600))
def test_a_void_user_is_refused_even_if_the_clock_went_back_since_its_issue(seconds: int) -> None:
    voided_at = AT + timedelta(seconds=seconds)
    second = revoked_before(AT, voided_at)
    assert second >= int(AT.timestamp())
    assert second == int(max(AT, voided_at).timestamp())


@given(
    st.one_of(st.none(), st.integers(-5, 5)),
    st.one_of(st.none(), st.integers(-5, 5)),
)
def test_the_later_heartbeat_is_shown_with_its_body(row: int | None, memory: int | None) -> None:
    def at(offset: int | None) -> datetime | None:
        return None if offset is None else AT + timedelta(seconds=offset)

    base = agent()
    stored = Agent(base.record, AT, "ann", AT, "ann", None, at(row), None if row is None else {"from": "row"})
    view = stored.view(at(memory), None if memory is None else {"from": "memory"})
    seen = [offset for offset in (row, memory) if offset is not None]
    assert view.last_seen == (at(max(seen)) if seen else None)
    if row != memory:
        best = max(((row, "row"), (memory, "memory")), key=lambda pair: -99 if pair[0] is None else pair[0])
        assert view.heartbeat == {"from": best[1]}


@given(st.integers(0, 12), st.integers(1, 10), st.integers(1, 4000))
def test_a_page_has_what_fits_and_says_whether_there_is_more(count: int, limit: int, max_bytes: int) -> None:
    items = [b"x" * (200 + i * 37) for i in range(count)]
    shown, more = fitting(items, limit, max_bytes)
    assert more == (shown < count)
    assert bool(shown) == bool(items)
    assert shown <= limit
    sizes = [len(item) + 1 for item in items]
    assert shown == 1 or sum(sizes[:shown]) <= max_bytes or not shown
    if more and shown < limit:
        assert sum(sizes[: shown + 1]) > max_bytes
