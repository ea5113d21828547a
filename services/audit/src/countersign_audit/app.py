"""Audit's wiring: what connects, what is consumed and answered, and in what order it stops."""

from __future__ import annotations

from countersign_chassis import NO_FAILPOINTS, Failpoints, Service
from countersign_contracts.commands import (
    ConfirmOnRecord,
    ExportLedger,
    GetLedgerHead,
    LedgerHead,
    ReadTimeline,
    Timeline,
)
from countersign_contracts.topology import RECORDED_SUBJECT

from . import timeline
from .appender import Appender
from .checkpoint_file import CheckpointFile
from .checkpoints import Checkpoints
from .exporting import Exporter
from .intake import Intake
from .measures import Measures
from .receipts import Receipts
from .settings import Settings
from .store import LedgerStore
from .writer import Writer


def build(settings: Settings, failpoints: Failpoints = NO_FAILPOINTS) -> Service:
    """The whole service. Nothing connects before ``start``."""
    service = Service("audit", settings, failpoints)
    service.migrations("countersign_audit")
    store = LedgerStore(service.db)
    measures = Measures(service.metrics)
    file = CheckpointFile(settings.checkpoint_file)

    receipts = Receipts(
        store,
        lambda: writer.leading,
        lambda receipt: service.bus.tell(RECORDED_SUBJECT, receipt),
        measures.receipt_wait,
    )
    appender = Appender(
        store,
        service.key,
        receipts,
        measures,
        failpoints,
        max_entries=settings.append_max_entries,
        linger_s=settings.append_linger_s,
        write_timeout_s=settings.write_timeout_s,
    )
    checkpoints = Checkpoints(
        service,
        store,
        file,
        appender,
        measures,
        interval_s=settings.checkpoint_interval_s,
        entries=settings.checkpoint_entries,
    )
    writer = Writer(
        service.db,
        store,
        service.trust,
        file,
        appender,
        checkpoints,
        Intake(service, store, appender),
        measures,
        service.log,
        standby_poll_s=settings.standby_poll_s,
    )
    exporter = Exporter(store, checkpoints, writer)

    async def read_timeline(command: ReadTimeline) -> Timeline:
        return await timeline.read(store, command)

    async def head(_: GetLedgerHead) -> LedgerHead:
        end, last = await store.head(), await store.last_checkpoint()
        return LedgerHead(seq=end.seq, hash=end.hash.hex(), checkpoint_seq=last.seq if last else 0)

    service.answer(ConfirmOnRecord, receipts.confirm)
    service.answer(ReadTimeline, read_timeline)
    service.answer(ExportLedger, exporter.page)
    service.answer(GetLedgerHead, head)

    # the streams are consumed by whoever writes: see intake
    service.on_start(writer.start)
    service.background(checkpoints.run, "checkpoints")
    service.on_stop(writer.stop)
    service.ready_check("ledger", writer.why_not)
    service.tells("ledger", writer.role)
    service.ready_check("checkpoints", checkpoints.why_not)
    return service
