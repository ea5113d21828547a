"""How `--replicas` is read, and the names and ports it gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from countersign_cli.embedded.errors import EmbeddedError
from countersign_cli.local import LocalOptions, LocalSystem
from countersign_cli.output import Misused
from countersign_cli.replicas import read_replicas


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", {}),
        ("policy=2", {"policy": 2}),
        (" policy = 2 ,executor=4, ", {"policy": 2, "executor": 4}),
        ("gateway=1", {"gateway": 1}),
    ],
)
def test_numbers_by_service(text: str, read: dict[str, int]) -> None:
    assert read_replicas(text) == read


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("polic=2", "no service; there are gateway, policy"),
        ("policy=2,policy=3", "names policy twice"),
        ("policy", "a number from 1 to 4"),
        ("policy=0", "not 'policy=0'"),
        ("policy=5", "not 'policy=5'"),
        ("policy=-1", "not 'policy=-1'"),
        ("policy=two", "not 'policy=two'"),
        ("policy=²", "not 'policy=²'"),
    ],
)
def test_what_cannot_be_meant_is_said(text: str, says: str) -> None:
    with pytest.raises(Misused, match=says):
        read_replicas(text)


def test_the_ports_of_the_first_replicas_stay_where_they_are_and_the_further_ones_follow() -> None:
    alone = LocalOptions(Path("data")).health_ports()
    more = LocalOptions(Path("data"), replicas={"gateway": 2, "policy": 3, "audit": 2}).health_ports()
    assert {name: more[name] for name in alone} == alone
    further = {"policy-2": 8017, "policy-3": 8018, "audit-2": 8019, "gateway-2": 8020}
    assert {name: port for name, port in more.items() if name not in alone} == further


def test_a_port_that_is_meant_for_two_is_said_with_the_options_to_change(tmp_path: Path) -> None:
    options = LocalOptions(tmp_path / "data", port=20_011, health_port=20_012, replicas={"gateway": 2})
    with pytest.raises(EmbeddedError, match=r"port 20012 is meant for the gateway-2 .* --port or --health-port"):
        LocalSystem(options).run(lambda event: None)
