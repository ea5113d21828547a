"""`countersign status` when something is down: what can be read is shown, what cannot is said."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from countersign_cli.client import Client
from countersign_cli.condition import addresses_of, condition
from countersign_cli.output import Misused

READY = {"service": "gateway", "version": "0.1.0"}
AWAY = {"type": "urn:countersign:problem:unavailable", "title": "x", "status": 503, "detail": "audit does not answer"}
NOBODY = {"type": "urn:countersign:problem:unauthenticated", "title": "x", "status": 401, "detail": "name a token"}
WELL: Mapping[str, tuple[int, Any]] = {
    "/health/ready": (200, READY),
    "/metrics": (200, 'countersign_messages_pending{consumer="a"} 3.0\n'),
    "/api/v1/stops": (200, {"items": []}),
    "/api/v1/approvals": (200, {"items": [1, 2]}),
    "/api/v1/actions": (200, {"items": []}),
    "/api/v1/audit/head": (200, {"seq": 7, "checkpoint_seq": 7}),
    "/api/v1/deadletters": (200, {"items": []}),
}


class Door:
    """A port that answers as it is told."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = dict(WELL)
        door = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, answer = door.answers[self.path.partition("?")[0]]
                body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.client = Client(f"http://{self.address}", "token")


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    running = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    running.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    running.join()


def test_nothing_is_wrong(door: Door) -> None:
    found = condition(door.client, {"gateway": door.address, "policy-2": door.address})
    assert (found["ready"], found["wrong"], found["unread"]) == (True, [], {})
    assert found["approvals_pending"] == 2 and found["ledger"]["seq"] == 7
    assert {each["waiting"] for each in found["services"].values()} == {3}


def test_what_one_service_does_not_answer_hides_nothing_else(door: Door) -> None:
    door.answers["/api/v1/audit/head"] = (503, AWAY)
    found = condition(door.client, {"gateway": door.address})
    assert found["services"]["gateway"]["ready"] and "ledger" not in found
    assert (found["stops"], found["approvals_pending"], found["unknown_outcomes"]) == ([], 2, 0)
    assert found["wrong"] == ["cannot be told (ledger): audit does not answer"]
    assert not found["ready"], "a service cannot work"


def test_a_caller_without_a_token_sees_the_services_all_the_same(door: Door) -> None:
    door.answers |= {path: (401, NOBODY) for path in WELL if path.startswith("/api/")}
    found = condition(door.client, {"gateway": door.address})
    assert found["ready"] and found["services"]["gateway"]["waiting"] == 3
    assert found["wrong"] == [
        "cannot be told (stops, approvals pending, unknown outcomes, ledger): name a token",
    ]


def test_a_gateway_that_cannot_work_is_asked_nothing_more(door: Door) -> None:
    door.answers = {"/health/ready": (503, {"reasons": ["waiting for PostgreSQL"]})}
    found = condition(door.client, {"gateway": door.address, "audit": "127.0.0.1:1"})
    assert found["wrong"][0] == "gateway is not ready: waiting for PostgreSQL"
    assert found["wrong"][1].startswith("audit is not ready: does not answer")
    assert not found["ready"] and found["unread"] == {}


def test_from_afar_only_the_gateway_is_seen_and_its_dead_letters(door: Door) -> None:
    assert condition(door.client, {})["services"] == {"gateway": {"ready": True, **READY, "dead_letters": 0}}


def test_each_address_of_a_name_is_a_replica() -> None:
    known = {"policy": ["10.0.0.2"], "executor": ["10.0.0.3", "10.0.0.4"]}
    assert addresses_of(" policy:8010,executor:8010, gone:8010", lambda host: known.get(host, [])) == {
        "policy": "policy:8010",
        "executor@10.0.0.3": "10.0.0.3:8010",
        "executor@10.0.0.4": "10.0.0.4:8010",
        "gone": "gone:8010",
    }
    assert addresses_of("") == {}


@pytest.mark.parametrize("text", ["policy", "policy:", ":8010", "policy:0", "policy:65536", "policy:²"])
def test_an_address_without_a_port_is_refused(text: str) -> None:
    with pytest.raises(Misused, match="takes host:port"):
        addresses_of(text)
