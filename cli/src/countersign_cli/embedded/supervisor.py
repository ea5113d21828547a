"""The supervisor: starts children in order, starts again what dies, stops all of it.

One process, no threads, no event loop: a fork is safe at any time. The imports are loaded once, in `preload`,
and every service forked from there shares their memory. What must outlive this process is with the guardian.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from countersign_cli.embedded.child import Child, State, describe_ending
from countersign_cli.embedded.errors import EmbeddedError
from countersign_cli.embedded.fork import executing, fork_child
from countersign_cli.embedded.guardian import Guardian
from countersign_cli.embedded.inbox import SignalInbox
from countersign_cli.embedded.specs import Event, EventKind, Program, Spec, Step, check_specs

_EAGER_SECONDS = 2.0
_EAGER_POLL_SECONDS = 0.01
_POLL_SECONDS = 0.1


class Supervisor:
    """Runs services, steps and programs until a signal, or until a given step has ended.

    Args:
        specs: what to run. What is after nothing starts at once and in parallel.
        logs: the folder of the children's logs, `<name>.log`.
        events: told of everything that happens, in the supervisor's process; what it raises stops the system.
        preload: imports what the services need; called once, when the first programs are already starting.
        guardian_keeps: descriptors (the lock) that stay open until everything has ended, whatever happens.
        start_seconds: how long the whole start may take.

    Raises:
        ValueError: the specs contradict each other.
    """

    def __init__(
        self,
        specs: Sequence[Spec],
        *,
        logs: Path,
        events: Callable[[Event], None],
        preload: Callable[[], None] | None = None,
        guardian_keeps: Sequence[int] = (),
        start_seconds: float = 60.0,
    ) -> None:
        self._after: Mapping[str, frozenset[str]] = check_specs(specs)
        # Programs first: they start by themselves while this process is busy with the imports.
        ordered = sorted(specs, key=lambda spec: not isinstance(spec, Program))
        self._children = {spec.name: Child(spec) for spec in ordered}
        self._logs = logs
        self._events = events
        self._preload = preload
        self._start_seconds = start_seconds
        self._guardian = Guardian(guardian_keeps)
        self._inbox = SignalInbox()
        self._broken: BaseException | None = None

    def run(self, *, on_ready: Callable[[], None] | None = None, until: str | None = None) -> int:
        """Starts everything, keeps it running, stops everything. For the main thread, once.

        Args:
            on_ready: called when everything (but `until`) is ready.
            until: the step that starts when everything else is ready, and whose end ends the run.

        Returns:
            0 after a signal to stop, or the exit code of the step `until` (killed: 128 and the signal).

        Raises:
            EmbeddedError: the start failed; everything is stopped again.
        """
        with self._inbox:
            self._guardian.start()
            try:
                self._start(until)
                if on_ready is not None and not self._inbox.stop_wanted:
                    on_ready()
                code = self._supervise(until)
            finally:
                self._stop()
                self._guardian.goodbye()
        if self._broken is not None:
            raise self._broken
        return code

    def pids(self) -> dict[str, int]:
        """The running children by name."""
        return {name: child.pid for name, child in self._children.items() if child.pid is not None}

    # --- running --------------------------------------------------------------------------------

    def _start(self, until: str | None) -> None:
        deadline = time.monotonic() + self._start_seconds
        starting = [child for child in self._children.values() if child.name != until]
        while not self._inbox.stop_wanted:
            self._advance(starting)
            waited_for = [child for child in starting if not child.was_ready]
            if not waited_for:
                return
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"{' and '.join(child.name for child in waited_for)} did not become ready within "
                    f"{self._start_seconds:.0f} s: see {' and '.join(map(str, self._logs_of(waited_for)))}"
                )
            self._inbox.wait(self._next_wait(starting))
            self._reap()
            for child in starting:
                if child.gave_up():
                    ending = describe_ending(child.exit_code or 0)
                    raise EmbeddedError(
                        child.fault or f"{child.name} ended with {ending} while starting: see {self._log_of(child)}"
                    )

    def _supervise(self, until: str | None) -> int:
        children = list(self._children.values())
        while not self._inbox.stop_wanted:
            self._advance(children)
            self._inbox.wait(self._next_wait(children))
            self._reap()
            if until is not None and (code := self._children[until].exit_code) is not None:
                return code if code >= 0 else 128 - code
        return 0

    def _advance(self, children: Iterable[Child]) -> None:
        """Launches what is due, and asks those starting whether they are ready."""
        for child in children:
            if self._inbox.stop_wanted:
                return
            now = time.monotonic()
            if child.state is State.WAITING and now >= child.due and self._may_start(child):
                self._launch(child)
            elif child.state is State.STARTING and not isinstance(child.spec, Step) and child.spec.ready():
                back = child.was_ready
                self._tell(EventKind.READY, child, f"in {child.note_ready(time.monotonic()):.2f} s")
                if back:
                    self._repeat_steps(child.name)

    def _repeat_steps(self, name: str) -> None:
        """One that had died is back: the steps that prepare it are due again."""
        for child in self._children.values():
            spec = child.spec
            if isinstance(spec, Step) and spec.again and name in spec.after and child.state is State.READY:
                child.state, child.due = State.WAITING, time.monotonic()

    def _may_start(self, child: Child) -> bool:
        return all(self._children[name].state is State.READY for name in self._after[child.name])

    def _is_needed(self, child: Child) -> bool:
        """Whether others are after it, which end before it."""
        return any(child.name in after for after in self._after.values())

    def _next_wait(self, children: Iterable[Child]) -> float | None:
        """Seconds until something is to be asked or launched; None: only a signal can bring news."""
        now = time.monotonic()
        waits = []
        for child in children:
            if child.state is State.STARTING and not isinstance(child.spec, Step):
                waits.append(_EAGER_POLL_SECONDS if now - child.launched < _EAGER_SECONDS else _POLL_SECONDS)
            elif child.state is State.WAITING and self._may_start(child):
                waits.append(max(0.0, child.due - now))
        return min(waits, default=None)

    def _launch(self, child: Child) -> None:
        spec = child.spec
        if isinstance(spec, Program):
            stop_signal, orphan_signal = spec.stop_signal, spec.orphan_signal or spec.stop_signal
            body = executing(spec.argv, spec.env, spec.preexec, orphan_signal)
        else:
            self._load_imports()
            body, stop_signal, orphan_signal = spec.target, signal.SIGTERM, signal.SIGTERM
        terminal = isinstance(spec, Step) and spec.terminal
        forked = fork_child(
            spec.name,
            body,
            enlist=lambda: self._guardian.enlist(stop_signal, self._is_needed(child)),
            stop_signal=orphan_signal,
            log=None if terminal else self._log_of(child),
        )
        child.note_launch(forked, time.monotonic())
        self._tell(EventKind.STARTED, child)

    def _load_imports(self) -> None:
        """Before the first fork of Python code: loads all once, and hides it from the garbage collector,
        which would touch, and so copy, the shared pages in every child."""
        if self._preload is not None:
            preload, self._preload = self._preload, None
            preload()
            gc.collect()
            gc.freeze()

    # --- ends -----------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Collects every process that has ended."""
        by_pid = {child.pid: child for child in self._children.values()}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._guardian.pid:
                self._guardian.start(
                    (ward, _stop_signal(child), self._is_needed(child)) for ward, child in by_pid.items() if ward
                )
            elif pid in by_pid:
                self._guardian.release(pid)
                with suppress(OSError):  # what it left behind in its process group goes with it
                    os.killpg(pid, signal.SIGKILL)
                self._note_end(by_pid[pid], pid, os.waitstatus_to_exitcode(status))

    def _note_end(self, child: Child, pid: int, code: int) -> None:
        fault, ending = child.note_end(code), describe_ending(code)
        if child.state is State.STOPPING:
            child.state = State.ENDED
            self._tell(EventKind.STOPPED, child, ending, pid)
        elif isinstance(child.spec, Step) and code == 0:
            self._tell(EventKind.FINISHED, child, f"in {child.note_ready(time.monotonic()):.2f} s", pid)
        else:
            now = time.monotonic()
            child.note_death(fault, now)
            self._tell(EventKind.DIED, child, f"{ending}: {fault}" if fault else ending, pid)
            if not child.gave_up():
                self._tell(EventKind.RESTARTING, child, f"in {child.due - now:.1f} s")

    def _stop(self) -> None:
        """Stops all in reverse: each layer when nothing that is after it runs any more."""
        while running := [child for child in self._children.values() if child.pid is not None]:
            needed = frozenset[str]().union(*(self._after[child.name] for child in running))
            layer = [child for child in reversed(running) if child.name not in needed]
            for child in layer:
                child.state = State.STOPPING
                _send(child, _stop_signal(child))
            self._await_end(layer)

    def _await_end(self, layer: list[Child]) -> None:
        """Waits for these to end; kills each, with its process group, when its time is up."""
        asked = time.monotonic()
        while running := [child for child in layer if child.pid is not None]:
            now = time.monotonic()
            for child in running:
                if now - asked >= child.spec.stop_seconds and child.pid is not None:
                    with suppress(OSError):
                        os.killpg(child.pid, signal.SIGKILL)
            nearest = min(child.spec.stop_seconds for child in running) - (now - asked)
            self._inbox.wait(nearest if nearest > 0 else _POLL_SECONDS)
            self._reap()

    # --- telling --------------------------------------------------------------------------------

    def _log_of(self, child: Child) -> Path:
        return self._logs / f"{child.name}.log"

    def _logs_of(self, children: Iterable[Child]) -> list[Path]:
        return [self._log_of(child) for child in children]

    def _tell(self, kind: EventKind, child: Child, detail: str = "", pid: int | None = None) -> None:
        """A listener that fails (a closed terminal) stops the system, and does not disturb the stopping."""
        if self._broken is not None:
            return
        try:
            self._events(Event(kind, child.name, pid or child.pid, detail))
        except BaseException as error:
            self._broken = error
            self._inbox.stop_wanted = True


def _stop_signal(child: Child) -> signal.Signals:
    return child.spec.stop_signal if isinstance(child.spec, Program) else signal.SIGTERM


def _send(child: Child, number: int) -> None:
    if child.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(child.pid, number)
