"""Every endpoint of the founding document answers as the document says."""

from pathlib import Path
from typing import Any

DOCUMENT_TICKET = {
    "id": 1,
    "customer_id": 1,
    "title": "Issue with login",
    "description": "Cannot log in",
    "status": "open",
    "created_at": "2025-01-01T10:00:00Z",
    "resolved_at": None,
}


async def test_health_says_healthy(api: Any) -> None:
    assert await api.call("GET", "/health") == (200, {"status": "healthy"})


async def test_a_ticket_is_the_documents(api: Any) -> None:
    assert await api.call("GET", "/tickets/1") == (200, DOCUMENT_TICKET)


async def test_a_customer_is_the_documents(api: Any) -> None:
    assert await api.call("GET", "/customers/1") == (
        200,
        {
            "id": 1,
            "name": "John Doe",
            "email": "john@example.com",
            "do_not_contact": False,
            "created_at": "2025-01-01T09:00:00Z",
        },
    )


async def test_the_seed_has_twelve_tickets_and_one_customer_who_wants_no_contact(api: Any) -> None:
    _, tickets = await api.call("GET", "/tickets")
    assert [ticket["id"] for ticket in tickets] == list(range(1, 13))
    assert {ticket["status"] for ticket in tickets} == {"open", "in_progress", "resolved", "closed"}
    unwilling = [(await api.call("GET", f"/customers/{number}"))[1]["do_not_contact"] for number in (1, 2)]
    assert unwilling == [False, True]
    assert (await api.call("GET", "/customers/3"))[0] == 404


async def test_tickets_are_filtered_by_status_and_by_customer(api: Any) -> None:
    async def ids(**query: str) -> list[int]:
        status, tickets = await api.call("GET", "/tickets", params=query)
        assert status == 200
        return [ticket["id"] for ticket in tickets]

    assert await ids(status="in_progress") == [9]
    assert await ids(customer_id="2") == [3, 5, 7, 9, 11]
    assert await ids(status="open", customer_id="2") == [3, 5, 7]
    assert await ids(customer_id="99") == []


async def test_a_change_touches_only_the_fields_sent(api: Any) -> None:
    status, changed = await api.call("PATCH", "/tickets/1", json={"title": "Updated title"})
    assert (status, changed) == (200, {**DOCUMENT_TICKET, "title": "Updated title"})
    assert (await api.call("GET", "/tickets/1"))[1] == changed


async def test_a_description_can_be_cleared(api: Any) -> None:
    _, changed = await api.call("PATCH", "/tickets/1", json={"description": None})
    assert changed["description"] is None


async def test_resolved_at_is_set_once_and_cleared_by_reopening(api: Any) -> None:
    async def resolved_at(status: str) -> str | None:
        _, ticket = await api.call("PATCH", "/tickets/1", json={"status": status})
        assert ticket["status"] == status
        return str(ticket["resolved_at"]) if ticket["resolved_at"] else None

    resolved = await resolved_at("resolved")
    assert resolved is not None
    assert await resolved_at("closed") == resolved
    assert await resolved_at("in_progress") is None
    _, retitled = await api.call("PATCH", "/tickets/6", json={"title": "Still resolved"})
    assert retitled["resolved_at"] == "2025-01-04T09:00:00Z"


async def test_an_email_is_sent_even_to_who_wants_none(api: Any) -> None:
    status, sent = await api.call("POST", "/customers/2/email", json={"subject": "Hello", "body": "You there?"})
    assert (status, sent["status"]) == (200, "sent")
    [entry] = await api.journal()
    assert entry["effect"] == "email_sent"
    assert entry["resource"] == "customers/2"
    assert entry["detail"] == {"to": "jane@example.com", "subject": "Hello", "message_id": sent["message_id"]}


async def test_the_journal_has_every_effect_with_its_key_and_what_changed(api: Any) -> None:
    await api.call("PATCH", "/tickets/2", json={"status": "closed"}, key="k-1")
    await api.call("PATCH", "/tickets/2", json={"status": "closed"})
    await api.call("GET", "/tickets")
    first, second = await api.journal()
    assert (first["effect"], first["resource"], first["idempotency_key"]) == (
        "ticket_updated",
        "tickets/2",
        "k-1",
    )
    assert first["detail"] == {"status": {"from": "open", "to": "closed"}}
    assert second["detail"] == {"status": {"from": "closed", "to": "closed"}}, "a repeated write is a write"
    assert second["idempotency_key"] is None
    assert (await api.call("GET", f"/journal?after={first['id']}"))[1] == [second]
    assert (await api.call("GET", "/journal?idempotency_key=k-1"))[1] == [first]


async def test_what_happened_survives_a_restart(serve: Any, database: Path) -> None:
    async with serve(database) as api:
        await api.call("PATCH", "/tickets/2", json={"status": "closed"})
        before = await api.journal()
    async with serve(database) as api:
        assert (await api.call("GET", "/tickets/2"))[1]["status"] == "closed"
        assert await api.journal() == before
