"""One granted action from its warrant to its recorded outcome: the order of things that the promises rest on.

Admit (warrant, tool, agent, facts) → claim (committed, stops read in that transaction) while audit confirms
the grant → gate (stops once more, directly before the first byte) → call → outcome (under the claim's
fence). What this returns is what remains to be said and done with the message; :mod:`.grants` does it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from countersign_chassis import Coalescer, Failpoints, Mirror
from countersign_chassis.tracing import Tracer
from countersign_contracts.actions import Action, ActionExecuted, ActionGranted, ActionRefused
from countersign_contracts.errors import Unavailable
from countersign_contracts.fleet import AgentRecord
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now
from countersign_ledger.trust import TrustBundle

from .admission import (
    Admitted,
    RefusedAction,
    admit,
    executed_event,
    refusal_event,
    refuse,
    require_unexpired,
    scopes_of_grant,
    tool_changed,
)
from .caller import Caller
from .calling import Ended, Held, NotStarted, Performer
from .catalogue import ToolCatalogue
from .control_store import ControlStore
from .databases import until_written
from .executions import Claim, Claimed, Executions, Finish
from .facts import Facts
from .measures import Measures
from .opening import Opening, require_opened
from .outcome import interrupted, repeatable
from .recovery import (
    AnotherAction,
    GiveUp,
    Later,
    Republish,
    Resume,
    State,
    Untouched,
    decide_repeat,
)
from .request import InvalidArguments
from .secrets import SecretWithheld
from .slots import Slots
from .stops import Stops, stopped
from .work import Bury, NotNow, Ready, Say, Settlement, Work, stored_events


def tool_attributes(action: Action) -> dict[str, str | int]:
    """After OpenTelemetry's semantic conventions for `execute_tool`; never arguments or results."""
    return {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": action.tool,
        "gen_ai.tool.call.id": action.request_id,
        "gen_ai.agent.id": action.agent_id,
        "countersign.request_id": action.request_id,
        "deployment.environment.name": action.env,
    }


class Actions:
    """Carries out granted actions."""

    def __init__(
        self,
        *,
        executions: Executions,
        control: ControlStore,
        catalogue: ToolCatalogue,
        agents: Mirror[AgentRecord],
        stops: Stops,
        facts: Facts,
        caller: Caller,
        opening: Opening,
        performer: Performer,
        slots: Slots,
        trust: TrustBundle,
        failpoints: Failpoints,
        measures: Measures,
        tracer: Tracer,
        owner_timeout_s: float,
        log: Any,
    ) -> None:
        self._executions = executions
        self._control = control
        self._catalogue = catalogue
        self._agents = agents
        self._stops = stops
        self._facts = facts
        self._caller = caller
        self._opening = opening
        self._performer = performer
        self._slots = slots
        self._trust = trust
        self._failpoints = failpoints
        self._measures = measures
        self._tracer = tracer
        self._owner_timeout_s = owner_timeout_s
        self._log = log
        #: What this process may have called (or took over from another that may have) and has no outcome of
        #: in the table.
        self._touched: set[str] = set()
        self._claims: Coalescer[Claim, Claimed] = Coalescer(executions.claim, 128)
        self._finishes: Coalescer[Finish, bool] = Coalescer(executions.finish, 256)

    async def carry_out(self, work: Work) -> Settlement:
        """Execute the action, or find out why not. Raises what a database or bus that is away raises."""
        action = work.grant.action
        claim = Claim(
            request_id=action.request_id,
            execution_id=prefixed("exe"),
            digest=action.digest,
            tool=action.tool,
            version=action.tool_version,
            scopes=scopes_of_grant(work.grant),
        )
        try:
            ready = await self._prepare(work)
            async with self._slots.one(ready.host):
                if work.known_unrecorded():
                    return NotNow("unrecorded")
                require_unexpired(ready.admitted.warrant, now())
                work.begun = True
                held = await self._hold(claim, work, ready)
                if not isinstance(held, Held):
                    return held
                await self._failpoints.hit("executor.after_claim_before_call")
                self._touched.add(action.request_id)
                granted_at = work.grant.decision.decided_at
                self._measures.wait.observe(max(0.0, (now() - granted_at).total_seconds()))
                span = self._tracer.begin(
                    f"execute_tool {action.tool}", "CLIENT", work.traceparent, tool_attributes(action)
                )
                headers = ready.headers if span is None else ready.headers | {"traceparent": span.traceparent}
                with self._measures.execution(action), self._tracer.within(span):
                    ended = await self._performer.perform(
                        ready.admitted, ready.request, headers, held, work.traceparent
                    )
                    if span is not None:
                        span.note(
                            "countersign.outcome", "not started" if isinstance(ended, NotStarted) else ended.state
                        )
        except RefusedAction as refusal:
            return await self._refuse(claim, work.grant, refusal)
        if isinstance(ended, NotStarted):
            await self._let_go(held)
            return NotNow(ended.reason)
        await self._failpoints.hit("executor.after_effect_before_record")
        return await self._record(work.grant, held, ended)

    async def _prepare(self, work: Work) -> Ready:
        """Everything that can speak against the action without claiming it; raises :class:`RefusedAction`."""
        action = work.grant.action
        record = await self._catalogue.find(action.tool, action.tool_version)
        agent = self._agents.get(action.agent_id)
        if agent is None or agent.status != "active":
            agent = await self._agents.fetch(action.agent_id)
        admitted = admit(work.grant, tool=record, agent=agent, trust=self._trust, at=now())
        if (stop := self._stops.covering(admitted.scopes)) is not None:
            raise RefusedAction(stopped(stop))
        endpoint = self._catalogue.endpoint(admitted.record)
        opened = self._opening.open(action, admitted.record)
        try:
            request = endpoint.request(opened.args)
            if opened.texts is not None:
                request = replace(request, sensitive=opened.texts)
            headers = self._caller.headers(
                admitted.tool, endpoint.host, idempotency_key=action.request_id, traceparent=work.traceparent
            )
        except InvalidArguments as error:
            raise refuse("invalid_arguments", str(error)) from None
        except SecretWithheld as error:
            raise refuse(error.code, str(error)) from None
        require_opened(request)
        if admitted.tool.facts:
            await self._require_facts(admitted, work.traceparent)
        return Ready(admitted, endpoint.host, request, headers)

    async def _require_facts(self, admitted: Admitted, traceparent: str | None) -> None:
        try:
            denials = await self._facts.look_up(admitted.tool, admitted.action.args, traceparent)
        except Unavailable as error:
            raise refuse("facts_unavailable", error.detail) from None
        if denials:
            raise RefusedAction(*denials)

    async def _hold(self, claim: Claim, work: Work, ready: Ready) -> Held | Settlement:
        """Claim, and have audit's word; what audit does not confirm is given back unclaimed."""
        claimed = await self._claims.submit(claim)
        match claimed.verdict:
            case "claimed":
                held = Held(claim.request_id, claimed.execution_id, claimed.fence, interrupted_before=False)
            case "stopped":
                stop = await self._control.stop(claimed.stop_id)
                raise RefusedAction(stopped(stop)) if stop else refuse("stopped", "stopped", claimed.stop_id)
            case "tool_changed":
                await self._catalogue.load()
                raise tool_changed(work.grant.action, self._catalogue.get(claim.tool))
            case "exists":
                found = await self._repeat(claim, work.grant, may_repeat=repeatable(ready.admitted.tool), refusal=None)
                if not isinstance(found, Held):
                    return found
                held = found
        if not await work.on_record():
            await self._let_go(held)
            return NotNow("unrecorded")
        return held

    async def _let_go(self, held: Held) -> None:
        """Nothing was called under this claim.

        The next delivery may claim it. A resumed one stays ``started``.
        """
        if not held.interrupted_before:
            self._touched.discard(held.request_id)
            await self._executions.release(held.request_id, held.fence)

    async def _refuse(self, claim: Claim, grant: ActionGranted, refusal: RefusedAction) -> Settlement:
        at = now()
        event = refusal_event(grant.action, grant.decision, refusal, at)
        body = event.to_bytes()
        if not await self._executions.refuse(claim, body, at):
            repeat = await self._repeat(claim, grant, may_repeat=False, refusal=refusal)
            return NotNow("held elsewhere") if isinstance(repeat, Held) else repeat
        self._count(claim.tool, event)
        return Say([(event, body)])

    async def _repeat(
        self, claim: Claim, grant: ActionGranted, *, may_repeat: bool, refusal: RefusedAction | None
    ) -> Held | Settlement:
        """The action has a row already: answer it again, take it over, or end it."""
        async with self._executions.transaction() as connection:
            await self._control.lock_stops_out(connection)
            row = await self._executions.lock_row(connection, claim.request_id)
            if row is None:
                return NotNow("row gone")
            if refusal is None and (stop := await self._control.covering(connection, claim.scopes)) is not None:
                refusal = RefusedAction(stopped(stop))
            decided = decide_repeat(
                row,
                digest=claim.digest,
                owner_lives=await self._executions.lives(connection, row.owner, self._owner_timeout_s),
                untouched=row.owner == self._executions.owner and claim.request_id not in self._touched,
                may_repeat=may_repeat,
                refused=None if refusal is None else str(refusal),
            )
            event: ActionExecuted | ActionRefused
            match decided:
                case Republish(row):
                    return Say(stored_events(row), again=True)
                case Later():
                    return NotNow("held elsewhere", 1.0)
                case AnotherAction():
                    return Bury("the request id was used for another action; nothing ran")
                case GiveUp(fence, execution_id, why):
                    execution = interrupted(execution_id, fence, why, now())
                    event = executed_event(grant.action, grant.decision, execution)
                    self._log.error(
                        "an interrupted execution is unknown",
                        request=row.request_id,
                        tool=claim.tool,
                        why=why,
                    )
                case Untouched(fence, execution_id) if refusal is not None:
                    event = refusal_event(grant.action, grant.decision, refusal, now())
                case Untouched(fence, execution_id) | Resume(fence, execution_id):
                    resumed = isinstance(decided, Resume)
                    if resumed:
                        self._touched.add(claim.request_id)
                    await self._executions.take_over(connection, claim.request_id, fence)
                    return Held(claim.request_id, execution_id, fence, interrupted_before=resumed)
            body = event.to_bytes()
            state: State = "refused" if isinstance(event, ActionRefused) else "unknown"
            await self._executions.finish_in(
                connection, [Finish(claim.request_id, row.fence, state, body, now(), fence)]
            )
        self._count(claim.tool, event)
        return Say([(event, body)])

    async def _record(self, grant: ActionGranted, held: Held, ended: Ended) -> Settlement:
        """Write how it ended, however long the database is away: nobody else knows."""
        body = ended.event.to_bytes()
        end = Finish(held.request_id, held.fence, ended.state, body, now(), held.fence)
        written = await until_written(lambda: self._finishes.submit(end), self._log)
        self._touched.discard(held.request_id)
        if not written and not await self._stored(held.request_id, body):
            self._measures.late.inc()
            self._log.error("a late result was refused by its fence", request=held.request_id, fence=held.fence)
            return NotNow("late", 1.0)
        self._count(grant.action.tool, ended.event)
        return Say([(ended.event, body)])

    async def _stored(self, request_id: str, body: bytes) -> bool:
        """Whether the row has this very outcome: an earlier write may have committed though its answer was lost."""
        row = await self._executions.get(request_id)
        return row is not None and row.event == body

    def _count(self, tool: str, event: ActionExecuted | ActionRefused) -> None:
        if isinstance(event, ActionExecuted):
            self._measures.executions.labels(self._measures.tools.of(tool), event.execution.outcome).inc()
            if event.execution.outcome == "unknown":
                self._measures.unknown_open.inc()
        else:
            for reason in event.reasons:
                self._measures.refusals.labels(reason.code).inc()
