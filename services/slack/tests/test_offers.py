"""What a rule allows beside a plain vote: what is offered, how it is shown, and what a form may say. Pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from countersign_contracts.approval_rules import StandingLimits
from countersign_contracts.approvals import AskedBy, Standing, StandingOffer, Vote
from countersign_harness.slack import buttons, fault_of, filled
from countersign_slack.ballots import Ballot
from countersign_slack.more_forms import allow_form, change_form
from countersign_slack.offers import Mistaken, limits_ahead, narrowable, read_changes, read_offer, span
from countersign_slack.rendering import ALLOW, APPROVE, CHANGE, MESSAGE_LIMIT, REJECT, message, size
from countersign_slack.several import carried, read_form
from countersign_slack.several_form import MOST, alike, fitting, pending_blocks, several_form
from countersign_slack.standing_list import standing_blocks, standing_text
from countersign_slack.whispers import Where
from countersign_slack.words import typable_json

from .conftest import held, view_of

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
LIMITS = StandingLimits(max_uses=20, max_s=28_800)
EVIL = "<!channel>&`‮*_ " * 40
SEALED = {"$sealed": "box", "mark": "m"}
PLAIN = Vote(voter="bob", vote="approve", digest="sha256:" + "a" * 64, channel="cli", voted_at=AT)
OFFER = StandingOffer(resource="things/*", until=AT + timedelta(hours=1), max_uses=2)


def asked(args: dict[str, Any], changes: dict[str, Any], standing: Any = None, **more: Any) -> Any:
    return view_of(held(args=args), asked_by=AskedBy(changes=changes, standing=standing), **more)


def sent(form: dict[str, Any], **given: Any) -> dict[str, Any]:
    """The values of a form that is sent as it stood, but for what is given."""
    return {
        block["block_id"]: {block["block_id"]: filled(block["element"], given.get(block["block_id"]))}
        for block in form["blocks"]
        if block["type"] == "input"
    }


@pytest.mark.parametrize(
    ("args", "changes", "offered"),
    [
        ({"n": 7}, {"n": "lower"}, ["n"]),
        ({"n": 7}, {}, []),
        ({"n": 7}, {"m": "lower"}, []),
        ({"n": True, "s": "x"}, {"n": "lower", "s": "lower"}, []),
        ({"l": ["a", "b"], "one": ["a"]}, {"l": "subset", "one": "subset"}, ["l"]),
        ({"s": "x", "n": SEALED}, {"s": "remove", "n": "remove"}, ["s"]),
        ({"n": 7, "note": "x" * 6000}, {"n": "lower"}, []),
        ({"l": ["x" * 3000, "y"]}, {"l": "subset"}, []),
        (
            {f"a{n:02}": n for n in range(30)},
            {f"a{n:02}": "remove" for n in range(30)},
            [f"a{n:02}" for n in range(10)],
        ),
    ],
)
def test_what_may_be_narrowed_here(args: Any, changes: Any, offered: list[str]) -> None:
    view = asked(args, changes, shown_args={"s": "x", "n": "[sensitive]"} if SEALED in args.values() else None)
    assert list(narrowable(view)) == offered
    assert (change_form(view, "{}") is not None) is bool(offered)
    assert (CHANGE in [b["action_id"] for b in buttons(message(view))]) is bool(offered)


@pytest.mark.parametrize(
    ("limits", "resource", "votes", "offered"),
    [
        (LIMITS, "things/7", (), True),
        (None, "things/7", (), False),
        (LIMITS, None, (), False),
        (LIMITS, "things/7", (PLAIN,), False),
        (LIMITS, "things/7", (PLAIN.model_copy(update={"standing": OFFER}),), True),
        (LIMITS, "things/7", (PLAIN.model_copy(update={"vote": "reject"}),), True),
    ],
)
def test_alike_actions_are_offered_where_something_would_come_of_it(
    limits: Any, resource: Any, votes: Any, offered: bool
) -> None:
    view = asked({"n": 7}, {}, limits, resource=resource, votes=votes)
    assert (limits_ahead(view) is not None) is offered
    assert (allow_form(view, "{}", AT) is not None) is offered
    plain = [APPROVE, REJECT]
    assert [b["action_id"] for b in buttons(message(view))] == ([*plain, ALLOW] if offered else plain)


@pytest.mark.parametrize(
    ("filled_in", "wanted"),
    [
        ({"change.n": "3"}, {"n": 3}),
        ({"change.n": " 3 ", "change.l": '["b"]', "change.s": ["remove"]}, {"n": 3, "l": ["b"], "s": None}),
        ({"change.n": "7.0", "change.s": ["remove"]}, {"s": None}),
        ({}, "change.l: Nothing is changed"),
        ({"change.n": "7.0"}, "change.l: Nothing is changed"),
        ({"change.n": ""}, "change.n: It takes a number, such as 12.5, as JSON: it is empty"),
        ({"change.n": "NaN"}, "change.n: It takes a number"),
        ({"change.n": "9007199254740993"}, "change.n: It takes a number"),
        ({"change.l": "[" * 30 + "]" * 30}, "change.l: It takes a list"),
        ({"change.l": "a, b"}, "change.l: It takes a list"),
    ],
)
def test_changes_are_read_and_what_cannot_be_read_is_said_at_its_field(filled_in: Any, wanted: Any) -> None:
    view = asked({"n": 7, "l": ["a", "b"], "s": "x"}, {"n": "lower", "l": "subset", "s": "remove"})
    values = sent(change_form(view, "{}") or {}, **filled_in)
    if isinstance(wanted, dict):
        assert read_changes(values, view) == wanted
        return
    with pytest.raises(Mistaken) as mistaken:
        read_changes(values, view)
    field, _, why = wanted.partition(": ")
    assert list(mistaken.value.fields) == [field] and mistaken.value.fields[field].startswith(why)


@pytest.mark.parametrize(
    ("filled_in", "wrong"),
    [
        ({"uses": "1"}, []),
        ({"uses": "20", "resource": " things/* "}, []),
        ({"uses": "20", "until": int((AT + timedelta(hours=8)).timestamp())}, []),
        ({"uses": "21"}, ["uses"]),
        ({"uses": "0"}, ["uses"]),
        ({"uses": "1.5"}, ["uses"]),
        ({"uses": "²"}, ["uses"]),
        ({"uses": "-1", "resource": " "}, ["resource", "uses"]),
        ({"uses": "1", "resource": "x" * 513}, ["resource"]),
        ({"uses": "1", "until": int(AT.timestamp())}, ["until"]),
        ({"uses": "1", "until": int((AT + timedelta(hours=9)).timestamp())}, ["until"]),
        ({"uses": "1", "until": 10**30}, ["until"]),
        ({"uses": "1", "until": "soon"}, ["until"]),
    ],
)
def test_an_offer_is_read_within_what_the_rule_allows(filled_in: Any, wrong: list[str]) -> None:
    view = asked({"n": 7}, {}, LIMITS, resource="things/7")
    values = sent(allow_form(view, "{}", AT) or {}, **filled_in)
    if not wrong:
        offer = read_offer(values, LIMITS, AT)
        assert offer.max_uses == int(filled_in["uses"]) and offer.resource.startswith("things/")
        assert AT < offer.until <= AT + timedelta(hours=8)
        return
    with pytest.raises(Mistaken) as mistaken:
        read_offer(values, LIMITS, AT)
    assert list(mistaken.value.fields) == wrong


def test_what_an_agent_chose_becomes_no_pattern_unseen() -> None:
    for resource in ("things/*", "things/\u202e7", "a\nb", "x" * 600):
        form = allow_form(asked({"n": 7}, {}, LIMITS, resource=resource), "{}", AT)
        (field,) = (b for b in (form or {})["blocks"] if b.get("block_id") == "resource")
        assert "initial_value" not in field["element"], resource


@pytest.mark.parametrize(("seconds", "said"), [(28_800, "8 h"), (129_600, "1 d 12 h"), (90, "1 min 30 s")])
def test_a_span_in_words(seconds: int, said: str) -> None:
    assert span(seconds) == said


JSON = st.recursive(st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(), st.lists)


@given(JSON)
def test_what_stands_in_a_field_is_json_for_exactly_the_value_and_hides_nothing(value: Any) -> None:
    text = typable_json(value)
    assert json.loads(text) == value
    assert text.isprintable() and not set(text) & set("<>&")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=40)
@given(
    st.lists(
        st.dictionaries(st.text(max_size=20), st.text(max_size=400) | st.integers(0, 9**15), max_size=6),
        min_size=1,
        max_size=25,
    ),
    st.text(max_size=1500),
    st.text(max_size=900),
)
def test_no_text_breaks_a_form_or_a_list(several: Any, words: str, resource: str) -> None:
    rule = AskedBy(changes=dict.fromkeys(("a", "l", "s"), "remove"), standing=LIMITS)
    views = []
    for args in several:
        event = held(args=args | {"a": words, "l": [words, 1], "s": 1})
        action = event.action.model_copy(update={"reason": words})
        views.append(view_of(event, action=action, resource=resource or None, preview=words, asked_by=rule))
    listed = {"text": "x", "blocks": pending_blocks(views[:20], True)}
    assert fault_of("response_url", listed) is None and "<!" not in json.dumps(listed).replace("<!date^", "")
    shown = fitting(views)
    for form in (
        change_form(views[0], "{}"),
        allow_form(views[0], "{}", AT),
        several_form(shown, 3, carried(shown, Where("C0D", "U0A", "u" * 500))) if shown else None,
    ):
        if form is not None:
            assert fault_of("views.open", {"view": form}) is None
            assert "<!" not in json.dumps(form["blocks"], ensure_ascii=False).replace("<!date^", "")


def test_the_worst_names_and_rules_fit() -> None:
    names = ["n" * 62 + f"{n:02}" for n in range(64)]
    view = asked(dict.fromkeys(names, 1), dict.fromkeys(names, "lower"), LIMITS, resource=EVIL)
    for form in (change_form(view, Ballot(view.approval_id, "sha256:" + "a" * 64, "approve", "C" * 64).text()),):
        assert form is not None and fault_of("views.open", {"view": form}) is None
        assert "Of 54 more: `countersign approvals approve" in json.dumps(form)
    standing = Standing(
        standing_id="std_1",
        approval_id="apr_1",
        agent_id="worker-1",
        tool="write_thing",
        env="prod",
        resource=EVIL[:512],
        granted_by=("b" * 128,) * 30,
        granted_at=AT,
        until=AT,
        max_uses=20,
    )
    listed = {"text": standing_text([standing] * 20), "blocks": standing_blocks([standing] * 20, True, True)}
    assert fault_of("response_url", listed) is None and "<!channel>" not in json.dumps(listed)


def test_alike_is_the_same_tool_agent_and_environment() -> None:
    one, other, two = view_of(held()), view_of(held(tool="erase_thing")), view_of(held())
    assert alike([one, other, two]) == [[one, two], [other]]
    assert [b["value"] for b in buttons({"blocks": pending_blocks([one, other, two], False)})] == [
        f"{one.approval_id} {two.approval_id}",
        other.approval_id,
    ]


def test_several_are_shown_whole_or_not_at_all() -> None:
    small, large = [view_of(held()) for _ in range(12)], view_of(held(args={"note": "x" * 1000}))
    assert fitting([large, *small]) == small[: MOST - 1]
    long = [view_of(held(args={"note": "x" * 900}), preview=EVIL, resource=EVIL) for _ in range(10)]
    assert 0 < len(fitting(long)) < 10
    assert size(several_form(fitting(long), 1, "{}")["blocks"]) < MESSAGE_LIMIT + 2000


def test_a_form_for_several_votes_on_what_was_shown_alone() -> None:
    views = [view_of(held()) for _ in range(3)]
    private = carried(views, Where("C0D", "U0A", "https://hooks.example/1"))
    values = sent(several_form(views, 0, private), which=["1", "3"], vote="approve")
    found = read_form(private, values, "U0A")
    assert found.items == tuple((views[at].approval_id, views[at].action.digest) for at in (0, 2))
    assert (found.vote, found.comment, found.errors) == ("approve", None, {})
    values["which"]["which"]["selected_options"] = [{"value": "4"}]
    with pytest.raises(KeyError):
        read_form(private, values, "U0A")
    for broken in ("[]", "{}", '{"channel": "", "url": "", "items": [["a", "b"]]}', private.replace("sha256:", "md5:")):
        with pytest.raises((KeyError, TypeError, ValueError)):
            read_form(broken, values, "U0A")


@pytest.mark.parametrize("text", ["[]", "1", "{", "null", '{"approval": "apr_1", "digest": "x", "vote": "approve"}'])
def test_what_a_form_carries_is_a_ballot_or_nothing(text: str) -> None:
    good = Ballot("apr_1", "sha256:" + "a" * 64, "approve", "C0D")
    assert Ballot.read(good.text()) == good
    with pytest.raises(ValueError):
        Ballot.read(text)
