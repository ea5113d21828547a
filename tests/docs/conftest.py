"""Reads a Markdown page as its reader would: saves its files, types its commands, compares what it shows.

A fence says what it is by its first line:

=========================  ==================================================================================
``<language> title=NAME``  a file that the reader saves as NAME
``sh``                     commands, run together in one shell; the ``text`` fence after it is what they print
``sh background``          a command that keeps running; the last line of the ``text`` after it is waited for
``sh not-tested``          for the reader only
``text later``             what the command started last prints after a while; its last line is waited for
=========================  ==================================================================================

What differs from run to run (ids, hashes, times, paths) may differ from the page, but the same on both sides each
time: an id on the page stands for one id of this run, in outputs and in later commands. A line ``…`` stands for any
lines.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from countersign_harness.ports import free_run

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_ID = re.compile(
    r"\b(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"  # a request id
    r"|(?:sha256:)?[0-9a-f]{64}|(?:alt|apr|chg|crd|dtk|obs|std|stp)_[0-9a-f]{32}|csp_[\w-]{43}"
    r"|(?:approvals|audit|executor|gateway|policy|registry)-[0-9a-f]{12})(?![\w-])"  # a key
)
#: Times, and positions in a ledger, which depend on how long things take: checkpoints lie between the entries. And
#: the beginnings of marks, which depend on a key; and what waits at a moment.
_PASSING = re.compile(
    r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?Z?|\bin \d+ (?:s|min|h)\b|\b\d+ (?:s|min|h) ago\b"
    r"|(?<=[Ee]ntry )\d+|(?<=entries )\d+ and \d+|\b\d+(?= entries\b| lines\b)|(?<=up to )\d+"
    r"|^\d+(?= \d{4}-)|(?<=\[sensitive\] )[0-9a-f]{8}"
    r"|\b\d+\.\d+ s behind|(?<=0\.1\.0)\s+\d+\s+\d+\.\d+$"
)


@dataclass(frozen=True)
class Fence:
    """One fenced block of a page: the words after the backticks, and the text."""

    words: tuple[str, ...]
    text: str

    @property
    def title(self) -> str | None:
        """The name under which the reader saves it."""
        return next((word.partition("=")[2] for word in self.words if word.startswith("title=")), None)


def fences(page: str) -> list[Fence]:
    """The fenced blocks of a page, in order."""
    return [Fence(tuple(found["info"].split()), found["text"]) for found in _FENCE.finditer(page)]


@dataclass
class Reader:
    """Follows a page in ``folder``; ``instead`` are the page's words (ports, options) that read otherwise here."""

    folder: Path
    instead: dict[str, str] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)
    followed: list[Path] = field(default_factory=list)
    _running: list[tuple[subprocess.Popen[bytes], Path]] = field(default_factory=list)

    def follow(self, page: Path) -> None:
        """Do everything the page says, in its order; once is enough."""
        if page in self.followed:
            return
        self.followed.append(page)
        blocks = fences(page.read_text(encoding="utf-8"))
        for number, fence in enumerate(blocks):
            following = blocks[number + 1] if number + 1 < len(blocks) else None
            shown = following.text if following and following.words == ("text",) else None
            if fence.title is not None:
                self.save(Path(fence.title), fence.text)
            elif fence.words[:1] == ("sh",) and "not-tested" not in fence.words:
                if "background" in fence.words:
                    assert shown is not None, f"the page does not say what shows that this runs: {fence.text}"
                    self.start(fence.text, until=shown.splitlines()[-1])
                else:
                    printed = self.run(fence.text)
                    if shown is not None:
                        self.compare(shown, printed)
            elif fence.words == ("text", "later"):
                self.wait_for(fence.text.splitlines()[-1])

    def save(self, name: Path, text: str) -> None:
        """Save a file in the folder."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(self._adapted(text), encoding="utf-8")

    def run(self, commands: str) -> str:
        """Type the commands, answering every question with yes; what was printed."""
        done = subprocess.run(
            ["sh", "-c", self._as_here(commands)],
            cwd=self.folder,
            env=_environment(),
            input=b"y\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        return done.stdout.decode()

    def start(self, command: str, *, until: str) -> None:
        """Start a command that stays, and wait for the line that shows that it works."""
        log = self.folder / f".terminal-{len(self._running)}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["sh", "-c", f"exec {self._as_here(command).strip()}"],
                cwd=self.folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._running.append((process, log))
        self.wait_for(until)

    def wait_for(self, line: str) -> None:
        """Wait until the command started last has printed the line."""
        process, log = self._running[-1]
        line = " ".join(self._adapted(line).split())
        deadline = time.monotonic() + 60
        while not any(_fits(line, each) for each in _lines(log.read_text())):
            ended, said = process.poll() is not None, log.read_text()
            assert not ended or line in said, f"it ended with {process.returncode}, without saying {line!r}: {said}"
            assert time.monotonic() < deadline, f"it never said {line!r}: {said}"
            time.sleep(0.02)

    def compare(self, shown: str, printed: str) -> None:
        """What the page shows is what was printed; notes which id here each id of the page stands for."""
        wanted = _lines(self._adapted(shown).replace("[y/N]: y\n", "[y/N]: "))
        got = _lines(printed)
        position = 0
        for number, line in enumerate(wanted):
            if line == "…":
                continue
            free = number > 0 and wanted[number - 1] == "…"
            while free and position < len(got) and not _fits(line, got[position]):
                position += 1
            assert position < len(got) and _fits(line, got[position]), (
                f"the page shows:\n{shown}\nbut this was printed:\n{printed}\nfirst difference: {line!r}"
            )
            for mine, here in zip(_ID.findall(line), _ID.findall(got[position]), strict=True):
                assert self.known.setdefault(mine, here) == here, f"{mine} was {self.known[mine]} before, now {here}"
            position += 1
        assert position == len(got) or wanted[-1] == "…", f"this was printed too: {got[position:]}"

    def close(self) -> None:
        """Ctrl-C in every terminal, the last opened first; nothing may be left running."""
        for process, log in reversed(self._running):
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError(f"it does not end: {log.read_text()}") from None

    def _adapted(self, text: str) -> str:
        for old, new in self.instead.items():
            text = re.sub(rf"\b{re.escape(old)}\b", new, text)
        return text

    def _as_here(self, commands: str) -> str:
        return _ID.sub(lambda found: self.known.get(found[0], found[0]), self._adapted(commands))


def _lines(text: str) -> list[str]:
    """Lines without blank ones, runs of blanks as one: columns are as wide as this run's ids.

    On a slow machine what waits long is sent again, and the ledger says so: no page shows that.
    """
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return [line for line in lines if " audit.repeated " not in line]


def _fits(wanted: str, got: str) -> bool:
    """Whether the lines say the same, ids and times aside."""
    return _without(wanted) == _without(got)


def _without(line: str) -> str:
    return _PASSING.sub("<n>", _ID.sub("<id>", line))


def _environment() -> dict[str, str]:
    """As in a new terminal with the environment active: ours on the path, nothing of Countersign's or Python's set."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("COUNTERSIGN_", "PYTHON"))}
    folders = [
        str(Path(sys.executable).parent),
        os.environ.get("PATH", os.defpath),
        str(Path(__file__).with_name("bin")),
    ]
    path = os.pathsep.join(folders)  # the last: a stand-in for curl, where there is none
    own = {"COUNTERSIGN_CONFIG_DIR": "logins"}  # in the reader's folder, not the home of who runs the tests
    return mine | own | {"PATH": path, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader who begins in an empty folder; whatever was started is ended with the module."""
    gateway, nats, health, *_, hooks, shop, letters, tickets = range(first := free_run(12), first + 12)
    instead = {
        "countersign up": f"countersign up --port {gateway} --nats-port {nats} --health-port {health}",
        "8001": str(gateway),
        "4222": str(nats),
        "9000": str(shop),
        "9001": str(letters),
        "9002": str(hooks),
        "8000": str(tickets),
    }
    reader = Reader(tmp_path_factory.mktemp("reader"), instead)
    try:
        yield reader
    finally:
        reader.close()
