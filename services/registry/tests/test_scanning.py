"""Folders with packages, watched by a running registry."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from countersign_contracts.packages import ListPackages, PackageChanged, PackageDiscovered, PackageGone, Packages
from countersign_registry.discovery import FILE

from .test_discovery import GOOD

if TYPE_CHECKING:
    from .conftest import Fleet


def a_package(folder: Path, kind: str, text: str = GOOD) -> Path:
    (folder / kind).mkdir(parents=True)
    file = folder / kind / FILE
    file.write_text(text.replace("SecurityAgent", kind.title()))
    return file


async def packages(fleet: Fleet) -> Packages:
    found: Packages = await fleet.bus.ask(ListPackages())
    return found


async def test_packages_come_change_and_go_and_faults_are_listed(fleet: Fleet, tmp_path: Path) -> None:
    agents = tmp_path / "agents"
    file = a_package(agents, "security")
    bad = a_package(agents, "broken", GOOD.replace("1.0.0", "x"))
    (agents / "none").mkdir()
    (agents / "README.md").write_text("no package")
    (tmp_path / "file").write_text("no folder")
    await fleet.run(agents_dirs=(agents, tmp_path / "nowhere", tmp_path / "file"), agents_dirs_every_s=0.05)

    async def there(kinds: list[str], errors: int) -> bool:
        page = await packages(fleet)
        return [v.package.agent_type for v in page.items] == kinds and len(page.errors) == errors

    await fleet.until(lambda: there(["security"], 2))
    page = await packages(fleet)
    assert page.folders == (str(agents), str(tmp_path / "nowhere"), str(tmp_path / "file"))
    assert {(error.path, error.line) for error in page.errors} == {
        (str(bad), 3),
        (str(tmp_path / "file"), None),
    }
    a_package(agents, "sales")
    bad.write_text(GOOD.replace("SecurityAgent", "Mended"))
    await fleet.until(lambda: there(["broken", "sales", "security"], 1))
    file.write_text(GOOD.replace("1.0.0", "1.1.0"))

    async def newer() -> bool:
        return (await packages(fleet)).items[-1].package.version == "1.1.0"

    await fleet.until(newer)
    bad.write_text("nonsense")  # it stays as it was read last
    await fleet.until(lambda: there(["broken", "sales", "security"], 2 + 5))
    bad.unlink()
    await fleet.until(lambda: there(["sales", "security"], 1))
    await fleet.run(agents_dirs=())
    await fleet.until(lambda: there([], 0))
    events = [event for event in await fleet.every_event() if hasattr(event, "package")]

    async def all_told() -> bool:
        nonlocal events
        events = [event for event in await fleet.every_event() if hasattr(event, "package")]
        return len(events) == 7

    await fleet.until(all_told)
    assert [(type(event), event.about()) for event in events] == [
        (PackageDiscovered, "security"),
        (PackageDiscovered, "broken"),
        (PackageDiscovered, "sales"),
        (PackageChanged, "security"),
        (PackageGone, "broken"),
        (PackageGone, "sales"),
        (PackageGone, "security"),
    ]
    assert events[0].nats_subject() == "fleet.discovered.security"


async def test_links_out_of_the_folder_and_other_oddities_are_errors(fleet: Fleet, tmp_path: Path) -> None:
    agents, outside = tmp_path / "agents", tmp_path / "outside"
    a_package(agents, "security")
    a_package(outside, "secret")
    (agents / "away").symlink_to(outside / "secret")
    (agents / "file").mkdir()
    (agents / "file" / FILE).symlink_to(outside / "secret" / FILE)
    (agents / "hanging").mkdir()
    (agents / "hanging" / FILE).symlink_to("nowhere")
    (agents / "loop").mkdir()
    (agents / "loop" / FILE).symlink_to(FILE)
    (agents / "pipe").mkdir()
    os.mkfifo(agents / "pipe" / FILE)
    (agents / "folder" / FILE).mkdir(parents=True)
    a_package(agents, "large", "#" * 20_000)
    (agents / os.fsdecode(b"b\xff")).mkdir()
    linked = tmp_path / "linked"
    linked.symlink_to(agents)
    await fleet.run(agents_dirs=(linked,), agents_dirs_every_s=0.05)

    async def looked() -> bool:
        return bool((await packages(fleet)).items)

    await fleet.until(looked)
    page = await packages(fleet)
    assert [view.package.agent_type for view in page.items] == ["security"]
    said = {Path(error.path).relative_to(linked).parts[0]: error.message for error in page.errors}
    assert said.keys() == {"away", "file", "hanging", "loop", "pipe", "folder", "large", "b\\xff"}
    assert "out of the folder" in said["away"] and "out of the folder" in said["file"]
