"""The people as the registry shows them: who votes, and who could."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from countersign_chassis import Mirror
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import PersonRecord, person_key

from .rules import entitled, is_approver, known_as

#: How many names are shown of whom a stage asks.
MOST_NAMES = 50
#: How many different sets of people are remembered.
_MOST_KNOWN = 1000


@dataclass(frozen=True, slots=True)
class Voter:
    """Who votes: a name, the person if there is one, and who they are in the channel."""

    name: str
    person: PersonRecord | None
    identity: str | None = None


class Roster:
    """Looks people up in bucket ``people``."""

    def __init__(self, people: Mirror[PersonRecord]) -> None:
        self._people = people
        self._asked: dict[frozenset[str], tuple[str, ...]] = {}
        people.subscribe(lambda *_: self._asked.clear())

    async def voter(self, voter: str) -> Voter:
        """Who votes, as the registry shows them at this moment.

        Raises `not_enrolled` for somebody in a channel whom no person confirmed to be, :class:`Unavailable` if the
        bucket does not answer: who was removed a moment ago must not vote.
        """
        kind, _, name = voter.partition(":")
        if kind == "person":
            return Voter(name, await self._now(name))
        known = next((each for each in self._people.values() if _is(each, kind, name)), None)
        person = await self._now(known.name) if known is not None else None
        if person is None or not _is(person, kind, name):
            raise CountersignError(
                f"nobody is enrolled as {name} in {kind}: run `countersign people link-slack` and enter its code there",
                code="not_enrolled",
            )
        return Voter(person.name, person, name)

    async def _now(self, name: str) -> PersonRecord | None:
        return await self._people.fetch(person_key(name))

    def known(self, name: str) -> PersonRecord | None:
        """The person, as far as is known here."""
        return self._people.get(person_key(name))

    def words(self, name: str) -> frozenset[str]:
        """By which words of a rule that person is meant; none if they are no approver."""
        person = self.known(name)
        return known_as(person) if person is not None and is_approver(person) else frozenset()

    def names(self, wanted: frozenset[str], but: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """Who is entitled among those wanted, without those whose names, in lower case, are ``but``; the first few."""
        if wanted not in self._asked:
            if len(self._asked) >= _MOST_KNOWN:
                self._asked.clear()
            self._asked[wanted] = tuple(sorted(p.name for p in self._people.values() if entitled(p, wanted)))
        return tuple(islice((name for name in self._asked[wanted] if name.casefold() not in but), MOST_NAMES))


def _is(person: PersonRecord, channel: str, identity: str) -> bool:
    return person.status == "active" and any(
        each.channel == channel and each.identity == identity for each in person.channels
    )
