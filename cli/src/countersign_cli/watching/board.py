"""What is on the board, what a key does, what is asked next, what is to be sent: without a terminal or a gateway."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ..approving import sheet
from ..approving.ballot import changes_of, standing_of, vote_body
from ..output import Misused

Vote = Literal["approve", "reject"]
#: The longest comment that is taken.
_LONGEST = 2000


@dataclass(frozen=True)
class Reload:
    """Read the list again."""

    mine: bool


@dataclass(frozen=True)
class Load:
    """Read these approvals again, to show them whole."""

    ids: tuple[str, ...]


@dataclass(frozen=True)
class Cast:
    """Send a vote: on one approval, or on several with the digest of each."""

    ids: tuple[str, ...]
    digests: tuple[str, ...]
    body: dict[str, Any]


@dataclass(frozen=True)
class Quit:
    """Leave."""


Order = Reload | Load | Cast | Quit


@dataclass
class Question:
    """One line that is asked for before a vote goes out. ``check`` raises :class:`Misused` for what cannot be meant."""

    name: str
    label: str
    needed: bool = False
    check: Callable[[str], Any] | None = None
    repeat: bool = False


@dataclass
class Asking:
    """A vote on its way: what was answered so far, and what is still asked."""

    vote: Vote
    questions: list[Question]
    answers: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    wrong: str | None = None


@dataclass(frozen=True)
class Wanted:
    """What is being read, to be shown whole; and the vote that is meant, unless they are only to be looked at."""

    ids: tuple[str, ...]
    vote: Vote | None = None


@dataclass
class Board:
    """Everything that is shown.

    ``rows`` is how many lines the page has, and ``content`` how many what is shown whole takes; the screen says both
    when it draws. ``at_time`` is the present, where it is another than the clock's.
    """

    mine: bool = False
    at_time: datetime | None = None
    items: list[dict[str, Any]] = field(default_factory=list)
    more: bool = False
    at: str | None = None
    marked: set[str] = field(default_factory=set)
    shown: list[dict[str, Any]] = field(default_factory=list)
    scroll: int = 0
    rows: int = 10
    content: int = 0
    asking: Asking | None = None
    wanted: Wanted | None = None
    link: str = "connecting"
    live: bool = False
    notice: str = ""
    wrong: bool = False
    done: list[str] = field(default_factory=list)
    sending: bool = False

    # --- news -------------------------------------------------------------------------------------

    def listed(self, items: Sequence[dict[str, Any]], more: bool) -> list[Order]:
        """The list was read; what is shown whole is read again, since it may have changed."""
        before = self.index
        self.items, self.more = list(items), more
        ids = {item["approval_id"] for item in self.items}
        self.marked &= ids
        if self.at not in ids:
            self.at = self.items[min(before, len(self.items) - 1)]["approval_id"] if self.items else None
        return [Load(_ids(self.shown))] if self.shown else []

    def loaded(self, found: Sequence[dict[str, Any]]) -> None:
        """Approvals were read whole. What was opened is shown, and its vote is asked about, if one was meant."""
        ids = _ids(found)
        if self.wanted is not None and self.wanted.ids == ids:
            vote, self.wanted, self.scroll = self.wanted.vote, None, 0
            self.shown = list(found)
            self.say("")
            if vote is not None:
                self._ask(vote, "plain")
        elif ids == _ids(self.shown):  # else it was left meanwhile
            self.shown = list(found)
            if self.asking is not None and self._ended():
                self.asking = None

    def failed(self, why: str) -> None:
        """What was sent or read was refused."""
        self.sending = False
        self.wanted = None
        self.say(why, wrong=True)

    def refused(self, why: str, code: str, cast: Cast) -> None:
        """A vote was refused; where only the one-time code was missing, it is asked for."""
        self.failed(why)
        if code == "assurance" and "code" not in cast.body and self.shown:
            vote: Vote = cast.body["vote"]
            answers = {"comment": cast.body.get("comment", ""), "body": cast.body}
            self.asking = Asking(vote, [_code()], answers, wrong=why)

    def counted(self, lines: Sequence[str], wrong: bool) -> list[Order]:
        """A vote was answered: say it, and go back to the list."""
        self.sending = False
        self.done += lines
        self.say("; ".join(lines), wrong=wrong)
        self.shown, self.marked = [], set()
        return [Reload(self.mine)]

    def linked(self, live: bool, words: str) -> list[Order]:
        """The connection to the gateway came or went."""
        self.live, self.link = live, words
        return [Reload(self.mine)] if live else []

    def say(self, words: str, *, wrong: bool = False) -> None:
        """One line at the bottom."""
        self.notice, self.wrong = words, wrong

    # --- keys -------------------------------------------------------------------------------------

    @property
    def present(self) -> datetime:
        """What `8h` and `18:00` count from."""
        return self.at_time or datetime.now().astimezone()

    @property
    def index(self) -> int:
        """Which line the cursor is on."""
        return next((n for n, item in enumerate(self.items) if item["approval_id"] == self.at), 0)

    @property
    def below(self) -> int:
        """Lines of what is shown whole that are below the page."""
        return max(0, self.content - self.scroll - self.rows)

    def press(self, key: str) -> list[Order]:
        """What a key does."""
        if key == "quit":
            return [Quit()]
        if self.asking is not None:
            return self._answer(key, self.asking)
        self.say("")
        return self._read(key) if self.shown else self._choose(key)

    def _choose(self, key: str) -> list[Order]:
        """A key on the list."""
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "pgup": -self.rows, "pgdn": self.rows}
        steps |= {"home": -len(self.items), "end": len(self.items)}
        if key in ("q", "esc"):
            if key == "esc" and (self.marked or self.wanted):
                self.marked, self.wanted = set(), None
                return []
            return [Quit()] if key == "q" else []
        if key == "m":
            self.mine = not self.mine
            return [Reload(self.mine)]
        if self.at is None:
            return []
        if key in steps:
            self.at = self.items[max(0, min(len(self.items) - 1, self.index + steps[key]))]["approval_id"]
        elif key == " ":
            self.marked ^= {self.at}
            self.at = self.items[min(len(self.items) - 1, self.index + 1)]["approval_id"]
        elif key in ("enter", "right"):
            return self._open((self.at,))
        elif key in ("a", "r"):
            ids = tuple(i["approval_id"] for i in self.items if i["approval_id"] in self.marked) or (self.at,)
            return self._open(ids, "approve" if key == "a" else "reject")
        return []

    def _open(self, ids: tuple[str, ...], vote: Vote | None = None) -> list[Order]:
        self.wanted = Wanted(ids, vote)
        self.say("reading…")
        return [Load(ids)]

    def _read(self, key: str) -> list[Order]:
        """A key while approvals are shown whole."""
        if key in ("esc", "left", "q"):
            self.shown, self.scroll = [], 0
        elif key in ("a", "r"):
            self._ask("approve" if key == "a" else "reject", "plain")
        elif key == "c":
            self._ask("approve", "changed")
        elif key == "s":
            self._ask("approve", "standing")
        else:
            self._scroll(key)
        return []

    def _scroll(self, key: str) -> None:
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "pgup": -self.rows, "pgdn": self.rows, " ": self.rows}
        steps |= {"home": -self.content, "end": self.content}
        self.scroll = max(0, min(self.scroll + steps.get(key, 0), self.content - self.rows))

    # --- the vote ---------------------------------------------------------------------------------

    def _ask(self, vote: Vote, how: str) -> None:
        """Begin to ask what the vote says besides; says why not, where it cannot be."""
        if self.sending:
            return
        if self._ended():
            return
        rule = self.shown[0].get("asked_by") or {}
        if how in ("changed", "standing") and len(self.shown) > 1:
            self.say("changes and standing approvals go with one approval at a time", wrong=True)
            return
        questions: list[Question] = []
        if how == "changed":
            if not rule.get("changes"):
                self.say("the rule lets nobody change arguments", wrong=True)
                return
            label = f"change ({sheet.changes_words(rule)}): name=JSON, or name= to leave it out; Enter when done"
            questions.append(Question("changes", label, check=_change, repeat=True))
        if how == "standing":
            if not rule.get("standing"):
                self.say("the rule lets nobody allow alike actions ahead", wrong=True)
                return
            this = sheet.flat(self.shown[0].get("resource") or "this one")
            label = f"allow ahead ({sheet.standing_words(rule)}): for how long, or until when? e.g. 8h, 18:00"
            questions += [
                Question("standing", label, True, self._length),
                Question("uses", "at most how many times?", True, _number),
                Question("resource", f"on which resources? (* is any text; Enter: exactly {this})"),
            ]
        questions.append(Question("comment", "comment, for the record and the requester (Enter: none)"))
        if any(map(sheet.needs_code, self.shown)):
            questions.append(_code())
        self.asking = Asking(vote, questions)

    def _length(self, text: str) -> None:
        standing_of(text, 1, None, self.present)

    def _ended(self) -> bool:
        """Whether any of what is shown has ended, which is said."""
        ended = [found for found in self.shown if found["state"] != "pending"]
        for found in ended[:1]:
            self.say(f"{found['approval_id']} is {found['state']} already; a vote changes nothing", wrong=True)
        return bool(ended)

    def _answer(self, key: str, asking: Asking) -> list[Order]:
        """A key while a line is asked for."""
        if key == "esc":
            self.asking = None
            self.say("nothing was voted")
        elif key == "backspace":
            asking.text = asking.text[:-1]
        elif key == "clear":
            asking.text = ""
        elif key == "enter":
            return self._take(asking)
        elif len(key) == 1 and len(asking.text) < _LONGEST:
            asking.text += key
        else:
            self._scroll(key)
        return []

    def _take(self, asking: Asking) -> list[Order]:
        """One answer is given: the next question, or the vote."""
        question, text = asking.questions[0], asking.text.strip()
        asking.wrong = None
        try:
            if question.needed and not text:
                raise Misused("this is needed; Esc to leave without a vote")
            if text and question.check is not None:
                question.check(text)
            if question.repeat and text:
                given = [*asking.answers.get(question.name, []), text]
                _changes(given)
                asking.answers[question.name], asking.text = given, ""
                return []
            if question.name == "changes" and not asking.answers.get("changes"):
                raise Misused("no change yet; Esc to leave without a vote")
        except Misused as error:
            asking.wrong = str(error)
            return []
        if text:
            asking.answers[question.name] = text
        asking.questions.pop(0)
        asking.text = ""
        return [] if asking.questions else self._send(asking)

    def _send(self, asking: Asking) -> list[Order]:
        self.asking, self.sending = None, True
        self.say("sending the vote…")
        said = asking.answers
        ids = _ids(self.shown)
        digests = tuple(found["action"]["digest"] for found in self.shown)
        if "body" in said:  # sent before, without the code
            return [Cast(ids, digests, said["body"] | {"code": said["code"]})]
        uses = int(said["uses"]) if "uses" in said else None
        body = vote_body(
            asking.vote,
            said.get("comment"),
            said.get("code"),
            changes=_changes(said.get("changes", [])),
            standing=standing_of(said.get("standing"), uses, said.get("resource"), self.present),
        )
        return [Cast(ids, digests, body)]


def _ids(found: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(each["approval_id"] for each in found)


def _code() -> Question:
    return Question("code", "one-time code of your authenticator (this stage needs one)", True, _six)


def _changes(given: Sequence[str]) -> dict[str, Any] | None:
    """From what was typed, each ``name=JSON`` or ``name=``."""
    dropped = [text[:-1] for text in given if text.endswith("=") and "=" not in text[:-1]]
    return changes_of([text for text in given if text[:-1] not in dropped], dropped)


def _change(text: str) -> None:
    _changes([text])


def _six(text: str) -> None:
    if not (len(text) == 6 and text.isascii() and text.isdigit()):
        raise Misused("a one-time code has six digits")


def _number(text: str) -> None:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 10_000):
        raise Misused("a number from 1 to 10000")
