"""A repeated key gets the stored answer and has no second effect; a key stands for one request."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

CLOSE = {"status": "closed"}
EMAIL = {"subject": "Hello", "body": "All done."}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("PATCH", "/tickets/2", CLOSE), ("POST", "/customers/1/email", EMAIL)],
    ids=["patch", "post"],
)
async def test_a_repeated_key_gets_the_stored_answer_without_a_second_effect(
    api: Any, method: str, path: str, body: dict[str, str]
) -> None:
    first = await api.call(method, path, json=body, key="k-1")
    assert first[0] == 200
    assert await api.call(method, path, json=body, key="k-1") == first
    assert len(await api.journal()) == 1


async def test_without_a_key_a_repeat_has_a_second_effect(api: Any) -> None:
    answers = [await api.call("POST", "/customers/1/email", json=EMAIL) for _ in range(2)]
    assert answers[0][1]["message_id"] != answers[1][1]["message_id"]
    assert len(await api.journal()) == 2


async def test_the_stored_answer_is_the_one_of_then_and_is_marked(api: Any) -> None:
    _, then = await api.call("PATCH", "/tickets/2", json=CLOSE, key="k-1")
    await api.call("PATCH", "/tickets/2", json={"status": "open"})
    async with api.http.patch(f"{api.url}/tickets/2", json=CLOSE, headers={"Idempotency-Key": "k-1"}) as replayed:
        assert await replayed.json() == then
        assert replayed.headers["Idempotency-Replayed"] == "true"
    assert (await api.call("GET", "/tickets/2"))[1]["status"] == "open"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/tickets/2", {"status": "resolved"}),
        ("PATCH", "/tickets/4", CLOSE),
        ("POST", "/customers/2/email", EMAIL),
    ],
    ids=["other body", "other ticket", "other operation"],
)
async def test_a_key_used_for_another_request_is_refused(
    api: Any, method: str, path: str, body: dict[str, str]
) -> None:
    await api.call("PATCH", "/tickets/2", json=CLOSE, key="k-1")
    status, problem = await api.call(method, path, json=body, key="k-1")
    assert (status, problem["type"]) == (409, "https://ticketing.example/problems/key-reused")
    assert len(await api.journal()) == 1


async def test_a_request_that_failed_does_not_use_up_its_key(api: Any) -> None:
    assert (await api.call("PATCH", "/tickets/99", json=CLOSE, key="k-1"))[0] == 404
    assert (await api.call("PATCH", "/tickets/2", json=CLOSE, key="k-1"))[0] == 200


async def test_one_key_sent_many_times_at_once_has_one_effect(api: Any) -> None:
    answers = await asyncio.gather(*(api.call("POST", "/customers/1/email", json=EMAIL, key="k-1") for _ in range(30)))
    assert {status for status, _ in answers} == {200}
    assert len({sent["message_id"] for _, sent in answers}) == 1
    assert len(await api.journal()) == 1


async def test_a_key_is_remembered_by_every_process_on_the_database(serve: Any, database: Path) -> None:
    async with serve(database) as one, serve(database) as other:
        first = await one.call("POST", "/customers/1/email", json=EMAIL, key="k-1")
        assert await other.call("POST", "/customers/1/email", json=EMAIL, key="k-1") == first
        assert len(await other.journal()) == 1
