"""How many processes of each service run on this machine, and what each is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from countersign_contracts.services import CORE_SERVICES, SERVICES

from .output import Misused

#: More of one service on one machine only takes memory from the others.
MOST = 4


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of a service. The first is called as the service, the others have a number: `policy-2`."""

    service: str
    number: int

    @property
    def name(self) -> str:
        """What supervisor, logs and `countersign status` call it."""
        return self.service if self.number == 1 else f"{self.service}-{self.number}"


def read_replicas(text: str) -> dict[str, int]:
    """`policy=2,executor=2` as numbers by service; raises :class:`Misused` saying what is wrong and what is allowed."""
    found: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        service, equals, number = (word.strip() for word in part.partition("="))
        if service not in SERVICES:
            raise Misused(f"--replicas names {service!r}, which is no service; there are {', '.join(SERVICES)}")
        if service in found:
            raise Misused(f"--replicas names {service} twice; once is enough, as in {service}=2")
        if not equals or not number.isascii() or not number.isdigit() or not 1 <= int(number) <= MOST:
            raise Misused(f"--replicas takes a number from 1 to {MOST} for each service, not {part!r}")
        found[service] = int(number)
    return found


def all_replicas(numbers: Mapping[str, int], services: Sequence[str] = CORE_SERVICES) -> Iterator[Replica]:
    """Every process there is to be: one of each service, or as many as ``numbers`` says."""
    for service in services:
        for number in range(1, numbers.get(service, 1) + 1):
            yield Replica(service, number)
