import asyncio
import time

from .conftest import Rig, make_action, update


async def test_speed(rig: Rig):
    svc = await rig.service()
    await rig.apply()
    for label, mk in (("plain", lambda i: make_action()), ("counted", lambda i: update(session=f"x{i}"))):
        for one in range(20):
            a = mk(f"w{label}{one}")
            await rig.request(a)
            await rig.ended(a)
        lat = []
        for i in range(60):
            a = mk(f"l{label}{i}")
            t = time.perf_counter()
            await rig.request(a)
            await rig.heard(f"{a.request_id}.granted")
            lat.append(time.perf_counter() - t)
        lat.sort()
        print(label, "p50 round trip ms (incl. gateway publish, audit hear)", round(lat[30] * 1e3, 2))
        acts = [mk(i) for i in range(1500)]
        t = time.perf_counter()
        c = time.process_time()
        for k in range(0, 1500, 128):
            await rig.request(*acts[k : k + 128])
        while not all(f"{a.request_id}.granted" in rig.bodies for a in acts):
            await asyncio.sleep(0.02)
        print(
            label,
            "rate",
            round(1500 / (time.perf_counter() - t)),
            "cpu us each (all in one process)",
            round((time.process_time() - c) / 1500 * 1e6),
        )
    for m in svc.metrics.registry.collect():
        if m.name in ("countersign_decision_seconds", "countersign_batch_size", "countersign_decisions"):
            for s in m.samples:
                if s.name.endswith(("_sum", "_count", "_total")):
                    print(s.name, s.labels, s.value)
