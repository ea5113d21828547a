"""Webhooks on real servers: posted and signed, once where it goes well, again where not, and nobody waits for them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from aiohttp import web

from countersign_chassis import Failpoints
from countersign_contracts.alerts import AlertAcknowledged, AlertRaised, AlertResolved
from countersign_contracts.approval_commands import PrepareApprovalRules
from countersign_contracts.catalogue import Document
from countersign_contracts.envelope import seal_event
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now
from countersign_contracts.webhook_commands import ListDeliveries, ListWebhooks, RepeatDeliveries
from countersign_harness.alerts import an_alert

from .conftest import Scene, vote

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # published


@dataclass
class Post:
    """What a receiver was sent."""

    path: str
    id: str
    body: bytes

    @property
    def said(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """An HTTP server that verifies as the specification says; ``answers`` are the statuses of the next posts."""

    port: int = 0
    posts: list[Post] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    stuck: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    keys: tuple[str, ...] = (SECRET,)
    forged: int = 0

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        message, timestamp = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        given = {one.removeprefix("v1,") for one in request.headers["webhook-signature"].split(" ")}
        key = base64.b64decode(self.keys[0].removeprefix("whsec_"))
        wanted = base64.b64encode(
            hmac.new(key, f"{message}.{timestamp}.".encode() + body, hashlib.sha256).digest()
        ).decode()
        if wanted not in given or abs(time.time() - int(timestamp)) > 300:
            self.forged += 1
        assert request.headers["content-type"] == "application/json"
        async with self.arrived:
            self.posts.append(Post(request.path, message, body))
            self.arrived.notify_all()
        if request.path == "/stuck":
            await self.stuck.wait()
        return web.Response(status=self.answers.pop(0) if self.answers else 204, headers=self.headers)

    async def got(self, count: int, path: str = "/hook") -> list[Post]:
        """The posts to ``path``, once there are so many."""
        async with asyncio.timeout(30), self.arrived:
            await self.arrived.wait_for(lambda: len(self.at(path)) >= count)
        return self.at(path)

    def at(self, path: str) -> list[Post]:
        return [post for post in self.posts if post.path == path]


@pytest_asyncio.fixture
async def receiver(offstage: Scene) -> AsyncIterator[Receiver]:
    """Listens on loopback; the approvals service has its secret."""
    receiver = Receiver()
    (offstage.stack.layout.webhook_secrets / "hook").write_text(SECRET + "\n")
    app = web.Application()
    app.router.add_post("/{path}", receiver.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.port = runner.addresses[0][1]
    yield receiver
    receiver.stuck.set()
    await runner.cleanup()


def hook(receiver: Receiver, path: str = "hook", name: str = "ops", **more: Any) -> str:
    given = {"url": f"http://127.0.0.1:{receiver.port}/{path}", "secret": "hook", "allow_private": True} | more
    return json.dumps({"kind": "webhook", "name": name} | given)


async def start(scene: Scene, **settings: Any) -> Any:
    return await scene.start(webhook_poll_s=0.05, **settings)


async def rows(scene: Scene, query: str = "SELECT * FROM webhook_delivery ORDER BY event_id") -> list[Any]:
    connection = await asyncpg.connect(scene.stack.superuser_dsn())
    try:
        await connection.execute("SET search_path = approvals")
        return list(await connection.fetch(query))
    finally:
        await connection.close()


async def until(scene: Scene, **wanted: Any) -> Any:
    """The first delivery, once it is so."""
    async with asyncio.timeout(30):
        while True:
            found = await rows(scene)
            if found and all(found[0][name] == value for name, value in wanted.items()):
                return found[0]
            await asyncio.sleep(0.02)


async def again_now(scene: Scene) -> None:
    """What is pending is due."""
    await rows(scene, "UPDATE webhook_delivery SET next_at = now() WHERE state = 'pending'")


async def test_events_are_posted_signed_and_without_arguments(offstage: Scene, receiver: Receiver) -> None:
    await start(offstage)
    await offstage.apply(hook(receiver) + "\n---\n" + hook(receiver, "ends", "ends", events=["resolved"]))
    event = await offstage.hold(note="PRIVATE WORDS")
    await offstage.gateway.ask(vote(event))
    posts = await receiver.got(3)
    by_type = {post.said["type"]: post.said for post in posts}
    assert set(by_type) == {"approvals.requested", "approvals.voted", "approvals.resolved"} and receiver.forged == 0
    [end] = await receiver.got(1, "/ends")
    assert end.said == by_type["approvals.resolved"]
    assert end.said["data"]["state"] == "approved" and end.said["id"] == f"{event.approval_id}.resolved"
    assert by_type["approvals.voted"]["data"]["vote"]["voter"] == "alice"
    assert not any(b"PRIVATE" in post.body for post in receiver.posts)
    assert len({post.id for post in posts}) == 3


async def test_alerts_are_posted_to_webhooks_that_ask_for_them_by_routes(offstage: Scene, receiver: Receiver) -> None:
    await start(offstage)
    alerts = ["alert_raised", "alert_resolved"]
    await offstage.apply(
        hook(receiver) + "\n---\n" + hook(receiver, "alerts", "alerts", events=alerts)
        + "\n---\n" + hook(receiver, "other", "other", events=alerts)
    )  # fmt: skip
    registry, raised = await offstage.stack.bus("registry"), an_alert(routes=("webhook:alerts",))
    at = raised.since
    over = raised.model_copy(update={"state": "resolved", "resolved_at": at, "resolution": "over", "revision": 2})
    for kind, alert in ((AlertRaised, raised), (AlertAcknowledged, raised), (AlertResolved, over)):
        event = kind(agent_id="worker-1", event=alert.alert_id, by="registry", at=at, alert=alert)
        await registry.publish(event)
    posts = await receiver.got(2, "/alerts")
    by_type = {post.said["type"]: post.said for post in posts}
    assert set(by_type) == {"fleet.alert_raised", "fleet.alert_resolved"} and receiver.forged == 0
    assert by_type["fleet.alert_resolved"]["data"]["alert"]["resolution"] == "over"
    page = await offstage.gateway.ask(ListDeliveries(webhook="alerts"))
    assert {(d.alert_id, d.approval_id) for d in page.items} == {(raised.alert_id, None)}
    assert receiver.at("/hook") == [] and receiver.at("/other") == []


async def test_what_fails_is_posted_again_with_the_same_id(offstage: Scene, receiver: Receiver) -> None:
    service = await start(offstage)
    receiver.answers = [500, 301, 204]
    receiver.headers = {"Location": f"http://127.0.0.1:{receiver.port}/elsewhere"}
    await offstage.apply(hook(receiver, events=["requested"]))
    await offstage.hold()
    failed = await until(offstage, tries=1, last_status=500)
    assert failed["state"] == "pending" and failed["last_error"] == "it answered 500"
    await again_now(offstage)
    await until(offstage, tries=2, last_status=301)
    await again_now(offstage)
    done = await until(offstage, state="delivered")
    posts = await receiver.got(3)
    assert len(posts) == len(receiver.posts) == 3 and len({post.id for post in posts}) == 1
    assert done["tries"] == 3 and done["last_status"] == 204 and done["last_error"] is None
    said = service.metrics.render().decode()
    assert 'countersign_webhook_tries_total{result="failed",webhook="ops"} 2.0' in said
    assert 'countersign_webhook_tries_total{result="delivered",webhook="ops"} 1.0' in said


async def test_a_receiver_that_hangs_delays_nobody_else(offstage: Scene, receiver: Receiver) -> None:
    await start(offstage, webhook_timeout_s=60)
    stuck = hook(receiver, "stuck", "a-stuck", events=["requested"])
    await offstage.apply(stuck + "\n---\n" + hook(receiver, events=["requested"]))
    held = [await offstage.hold(n=n) for n in range(12)]
    fine = await receiver.got(12)
    assert {post.said["data"]["approval_id"] for post in fine} == {each.approval_id for each in held}
    # four places and no more: the others wait in their rows
    await receiver.got(4, "/stuck")
    assert len(receiver.at("/stuck")) == 4
    receiver.stuck.set()
    await receiver.got(12, "/stuck")


async def test_several_replicas_post_each_event_once(offstage: Scene, receiver: Receiver) -> None:
    for _ in range(2):
        await start(offstage)
    await offstage.apply(hook(receiver, events=["requested"]))
    held = await asyncio.gather(*(offstage.hold(n=n) for n in range(30)))
    await receiver.got(30)
    async with asyncio.timeout(20):
        while [r for r in await rows(offstage) if r["state"] != "delivered"]:
            await asyncio.sleep(0.02)
    assert len(receiver.posts) == 30 and len({post.id for post in receiver.posts}) == len(held)


async def test_a_replica_that_dies_after_the_post_posts_again_under_the_same_id(
    offstage: Scene, receiver: Receiver
) -> None:
    died = asyncio.Event()

    async def dies() -> None:
        if not died.is_set():
            died.set()
            await asyncio.Event().wait()

    first = await start(offstage, failpoints=Failpoints({"approvals.after_webhook_before_mark": dies}))
    await offstage.apply(hook(receiver, events=["requested"]))
    await offstage.hold()
    async with asyncio.timeout(20):
        await died.wait()
    await first.stop()
    [row] = await rows(offstage)
    assert row["state"] == "pending" and row["tries"] == 1
    await start(offstage)
    await again_now(offstage)
    await until(offstage, state="delivered", tries=2)
    assert len({post.id for post in await receiver.got(2)}) == 1


async def test_what_cannot_be_posted_is_given_up_and_counted(offstage: Scene, receiver: Receiver) -> None:
    service = await start(offstage)
    await offstage.apply(hook(receiver, events=["requested"]))
    receiver.answers = [500, 410]
    await offstage.hold()
    await until(offstage, tries=1, last_status=500)
    await rows(offstage, "UPDATE webhook_delivery SET give_up_at = now() + interval '1 s', next_at = now()")
    gone = await until(offstage, state="given_up")
    assert (gone["last_status"], gone["tries"]) == (410, 2)
    assert 'webhook_tries_total{result="given_up",webhook="ops"} 1.0' in service.metrics.render().decode()

    # a disabled one's rest is given up when its time is over
    await rows(offstage, "DELETE FROM webhook_delivery")
    receiver.answers = [500]
    await offstage.hold()
    await until(offstage, tries=1, last_status=500)
    await offstage.apply(hook(receiver, events=["requested"], enabled=False))
    await offstage.hold()
    await rows(offstage, "UPDATE webhook_delivery SET give_up_at = now(), next_at = now()")
    assert (await until(offstage, state="given_up"))["tries"] == 1
    assert len(await rows(offstage)) == 1 and len(receiver.posts) == 3


async def test_addresses_that_nobody_may_reach_are_not_connected_to(offstage: Scene, receiver: Receiver) -> None:
    await start(offstage)
    url = f"https://localhost:{receiver.port}/hook"
    await offstage.apply(hook(receiver, events=["requested"], url=url, allow_private=False))
    await offstage.hold()
    row = await until(offstage, tries=1, state="pending")
    async with asyncio.timeout(20):
        while row["last_error"] is None:
            row = await until(offstage, tries=1)
    assert "loopback or private address" in row["last_error"] and receiver.posts == []
    # without https, public addresses are closed
    name = "one.one.one.one"
    await offstage.apply(hook(receiver, events=["requested"], url=f"http://{name}/hook"))
    assert (await rows(offstage))[0]["last_error"] is not None


async def test_a_new_secret_counts_at_once_beside_the_old_one(offstage: Scene, receiver: Receiver) -> None:
    await start(offstage)
    await offstage.apply(hook(receiver, events=["requested"]))
    new = "whsec_" + base64.b64encode(b"n" * 32).decode()
    file = offstage.stack.layout.webhook_secrets / "hook"
    file.write_text(f"{new}\n{SECRET}\n")
    for number, keys in enumerate(((SECRET,), (new,)), 1):
        receiver.keys = keys
        await offstage.hold(n=number)
        await receiver.got(number)
    assert receiver.forged == 0
    file.unlink()
    await offstage.hold(n=3)
    async with asyncio.timeout(20):
        while not [r for r in await rows(offstage) if "has no secret" in (r["last_error"] or "")]:
            await asyncio.sleep(0.02)
    assert len(receiver.posts) == 2


async def test_an_unknown_secret_is_an_error_with_file_and_line(offstage: Scene, receiver: Receiver) -> None:
    await start(offstage)
    text = "kind: webhook\nname: ops\nurl: https://example.com/x\nsecret: nothing\n"
    documents = (Document(path="hooks.yaml", text=text),)
    plan = await offstage.gateway.ask(PrepareApprovalRules(change_id=prefixed("chg"), documents=documents))
    [error] = plan.errors
    assert (error.path, error.line) == ("hooks.yaml", 4) and "has no secret `nothing`" in error.message
    assert "hook" in (error.allowed or "") and SECRET not in str(plan)


async def test_what_was_given_up_is_listed_and_posted_again_when_people_say_so(
    offstage: Scene, receiver: Receiver
) -> None:
    await start(offstage)
    await offstage.apply(hook(receiver, events=["requested"]) + "\n---\n" + hook(receiver, "b", "b", enabled=False))
    receiver.answers = [410] * 3
    held = [await offstage.hold(n=n) for n in range(3)]
    await receiver.got(3)
    async with asyncio.timeout(20):
        while (await offstage.gateway.ask(ListWebhooks())).items[1].given_up < 3:
            await asyncio.sleep(0.02)
    listed = await offstage.gateway.ask(ListWebhooks())
    assert [(each.webhook.name, each.pending, each.given_up) for each in listed.items] == [("b", 0, 0), ("ops", 0, 3)]

    pages: list[Any] = []
    after = None
    while True:
        page = await offstage.gateway.ask(ListDeliveries(webhook="ops", state="given_up", limit=2, after=after))
        pages += page.items
        if (after := page.next) is None:
            break
    assert sorted(each.approval_id for each in pages) == sorted(each.approval_id for each in held)
    assert pages == sorted(pages, key=lambda each: each.created_at, reverse=True)
    assert {(each.last_status, each.tries, each.next_at) for each in pages} == {(410, 1, None)}
    assert {each.webhook_id for each in pages} == {post.id for post in receiver.posts}
    assert (await offstage.gateway.ask(ListDeliveries(webhook="b"))).items == ()
    with pytest.raises(CountersignError, match="`after` is what a page gave"):
        await offstage.gateway.ask(ListDeliveries(after="yesterday"))

    one = await offstage.gateway.ask(RepeatDeliveries(webhook="ops", event_id=pages[0].event_id, by="ann"))
    assert one.count == 1 and (await receiver.got(4))[3].id == pages[0].webhook_id
    rest = await offstage.gateway.ask(RepeatDeliveries(webhook="ops", by="ann"))
    assert rest.count == 2 and len({post.id for post in await receiver.got(6)}) == 3
    for order in (RepeatDeliveries(webhook="b", by="ann"), RepeatDeliveries(webhook="ops", event_id="none", by="ann")):
        with pytest.raises(CountersignError, match="was given up for webhook") as error:
            await offstage.gateway.ask(order)
        assert error.value.code == "not_found"


async def test_an_event_that_comes_again_is_posted_once_and_an_old_one_never(
    offstage: Scene, receiver: Receiver
) -> None:
    await start(offstage)
    await offstage.apply(hook(receiver, events=["requested"]))
    first = await offstage.hold()
    await receiver.got(1)
    [event] = await offstage.told("requested")
    approvals = await offstage.stack.bus("approvals")
    await approvals.publish_all([(event, None)], attempt="again")
    old = event.model_copy(update={"approval_id": "apr_old"})
    sealed = seal_event(old, time=now() - timedelta(days=2), key=offstage.stack.key("approvals"))
    await approvals.publish_sealed([(old.nats_subject(), "APPROVALS", sealed)])
    # what comes after them in the stream
    last = await offstage.hold(n=2)
    await until_of(offstage, last.approval_id)
    said = [post.said["data"]["approval_id"] for post in receiver.posts]
    assert sorted(said) == sorted([first.approval_id, last.approval_id])


async def until_of(scene: Scene, approval_id: str) -> None:
    """Everything there is was delivered, that approval's too."""
    async with asyncio.timeout(30):
        while True:
            found = await rows(scene)
            if any(r["approval_id"] == approval_id for r in found) and all(r["state"] == "delivered" for r in found):
                return
            await asyncio.sleep(0.02)
