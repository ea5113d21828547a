"""The event keys of services and the trust bundle: rotated in three steps, and none ever forgotten."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from countersign_cli.bootstrap import Layout, prepare_material
from countersign_cli.bootstrap.event_keys import EventKey, add, held, retire, use
from countersign_cli.main import app
from countersign_contracts.errors import CountersignError
from countersign_ledger import SigningKey, TrustBundle

POLICY = EventKey("policy")


def bootstrap(folder: Path) -> Layout:
    layout = Layout(folder)
    prepare_material(layout, nats_host="127.0.0.1", nats_port=4222)
    return layout


def bundle(layout: Layout) -> TrustBundle:
    return TrustBundle.from_json(layout.trust.read_text())


def ends(layout: Layout) -> dict[str, bool]:
    """Of each key of policy's in the bundle, whether its time is over."""
    return {kid: key.not_after is not None for kid, key in bundle(layout).keys.items() if key.service == "policy"}


def test_each_step_holds_through_the_next_bootstrap_and_the_deployment_stays(tmp_path: Path) -> None:
    layout = bootstrap(tmp_path)
    deployment = bundle(layout).deployment
    first = held(layout, POLICY)[0].kid
    second = add(layout, POLICY)
    bootstrap(tmp_path)
    assert ends(layout) == {first: False, second: False}
    assert [key.kid for key in held(layout, POLICY)] == [first, second]
    assert stat.S_IMODE(layout.other_signing_key("policy").stat().st_mode) == 0o600

    assert use(layout, POLICY) == second
    bootstrap(tmp_path)
    assert ends(layout) == {first: False, second: False}
    assert SigningKey.from_json(layout.signing_key("policy").read_text()).kid == second

    assert retire(layout, POLICY) == first
    said = layout.trust.read_text()
    bootstrap(tmp_path)
    assert layout.trust.read_text() == said
    assert ends(layout) == {first: True, second: False}
    assert not layout.other_signing_key("policy").exists()
    assert bundle(layout).deployment == deployment
    assert bundle(layout).keys[first].emits == bundle(layout).keys[second].emits


@pytest.mark.parametrize(("step", "done"), [(use, []), (retire, []), (add, [add]), (add, [add, use])])
def test_a_step_out_of_its_order_is_refused(
    tmp_path: Path, step: Callable[[Layout, EventKey], str], done: list[Callable[[Layout, EventKey], str]]
) -> None:
    layout = bootstrap(tmp_path)
    for each in done:
        each(layout, POLICY)
    said = layout.trust.read_text()
    with pytest.raises(CountersignError, match=r"countersign keys (add|use) policy-events") as refused:
        step(layout, POLICY)
    assert refused.value.code == "conflict"
    assert layout.trust.read_text() == said


def test_a_key_that_was_replaced_by_hand_counts_for_what_it_signed(tmp_path: Path) -> None:
    layout = bootstrap(tmp_path)
    first = layout.signing_key("policy").read_text()
    layout.signing_key("policy").unlink()
    bootstrap(tmp_path)
    old, new = SigningKey.from_json(first).kid, held(layout, POLICY)[0].kid
    assert ends(layout) == {old: True, new: False}

    layout.signing_key("policy").write_text(first)
    with pytest.raises(CountersignError, match=f"holds key {old}, which was retired at .* keys/policy.json"):
        bootstrap(tmp_path)


def test_a_rotation_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    layout = bootstrap(tmp_path)
    first, second = held(layout, POLICY)[0], add(layout, POLICY)
    layout.other_signing_key("policy").write_text(first.to_json())  # as far as `use` came
    bootstrap(tmp_path)
    assert ends(layout) == {first.kid: False, second: True}
    assert add(layout, POLICY) not in (first.kid, second)


def test_the_commands_say_what_to_do_next(tmp_path: Path) -> None:
    layout = bootstrap(tmp_path)
    said = {}
    for step in ("add", "use", "retire"):
        done = CliRunner().invoke(app, ["keys", step, "policy-events", "--folder", str(tmp_path)])
        assert done.exit_code == 0, done.output
        said[step] = " ".join(done.output.split())
        assert "every service has the trust bundle and its own key" in said[step]
    assert "then: countersign keys use policy-events" in said["add"]
    assert "then: countersign keys retire policy-events" in said["use"]
    listed = CliRunner().invoke(app, ["keys", "list", "--json", "--folder", str(tmp_path)])
    (row,) = [item for item in json.loads(listed.output)["items"] if item["name"] == "policy-events"]
    assert row == {
        "name": "policy-events",
        "key": held(layout, POLICY)[0].kid,
        "signs": True,
        "what": "what policy says: events, commands, warrants",
    }
    unknown = CliRunner().invoke(app, ["keys", "add", "policy", "--folder", str(tmp_path)])
    assert unknown.exit_code != 0
    assert "policy-events" in unknown.output + unknown.stderr
