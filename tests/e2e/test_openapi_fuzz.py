"""Every operation of the OpenAPI document on the running gateway, with what it allows and with what it does not.

No answer is an error of the server's, or outside of what the document says. Schemathesis makes the requests, the same
ones in each run.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from countersign_harness.world import World

load_all_checks()
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
#: For each operation, of what it allows and of what it does not. Making them is what takes the time.
EXAMPLES = 2
#: What an agent's credential is for; a person's is refused there before anything is read.
AGENTS_OWN = {
    ("POST", "/api/v1/actions"),
    ("POST", "/action"),
    ("POST", "/api/v1/heartbeat"),
    ("POST", "/api/v1/telemetry/logs"),
    ("POST", "/api/v1/telemetry/metrics"),
}
#: What has no end of its own; services/gateway/tests/test_approvals_http.py and test_telemetry.py read it.
ENDLESS = {("GET", "/api/v1/approvals/events"), ("GET", "/api/v1/agents/{agent_id}/logs/live")}

often = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    verbosity=Verbosity.quiet,
    suppress_health_check=list(HealthCheck),
)


def attack(operation: Any, mode: GenerationMode, url: str, token: str) -> int:
    """Send what schemathesis makes of one operation; how many were sent. Raises its failures."""
    sent = 0
    session = requests.Session()

    @often
    @given(case=operation.as_strategy(generation_mode=mode))
    def each(case: Any) -> None:
        nonlocal sent
        sent += 1
        response = case.call(url, session, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        case.validate_response(response, checks=CHECKS)

    try:
        with suppress(Unsatisfiable):  # an operation without parameters takes nothing wrong
            each()
    finally:
        session.close()
    return sent


@pytest.mark.timeout(600)
async def test_no_request_gets_an_answer_outside_of_the_document(world: World) -> None:
    document = await world.ok("GET", "/openapi.json")
    schema = schemathesis.openapi.from_dict(document)
    failures, sent = [], 0
    results: list[Any] = list(schema.get_all_operations())
    for result in results:
        operation = result.ok()
        if (operation.method.upper(), operation.path) in ENDLESS:
            continue
        who = "worker-1" if (operation.method.upper(), operation.path) in AGENTS_OWN else "admin"
        for mode in GenerationMode:
            try:
                sent += await asyncio.to_thread(attack, operation, mode, world.url, world.tokens[who])
            except (Exception, BaseExceptionGroup) as error:
                said = [str(each) for each in getattr(error, "exceptions", [error])]
                failures.append(f"{operation.label} ({mode.value}): " + "\n".join(said))
    assert not failures, "\n\n".join(failures)
    assert sent > 30 * EXAMPLES
