"""Writes docs/reference, all of which can be read off the code, and Grafana's dashboards: what `make docs` runs.

`--check` writes nothing, names each file that differs from what the code says, and exits with 1. What is written
depends on the code and the locked packages alone: not on the machine, the time, a terminal, or the version of Python.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from countersign_gateway.http.app import make_app
from generate_asyncapi import text as asyncapi
from generate_cli import cli
from generate_dashboards import dashboards
from generate_errors import errors
from generate_markdown import bullets, page
from generate_metrics import metrics
from generate_permissions import permissions
from generate_pictures import pictures
from generate_pictures_slack import slack_pictures
from generate_schemas import files as schemas
from generate_settings import settings
from generate_topology import topology_page
from workspace import ROOT

REFERENCE = ROOT / "docs" / "reference"
GRAFANA = ROOT / "deploy" / "grafana" / "dashboards"
COMMAND = "make docs"


def documents() -> dict[str, str]:
    """The text of every document, by path below `docs/reference`."""
    version = tomllib.loads((ROOT / "services/gateway/pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    openapi = make_app(None, [], None, version).openapi()
    return {
        "README.md": _contents(),
        "asyncapi.yaml": asyncapi(version),
        "cli.md": cli(),
        "errors.md": errors(),
        "metrics.md": metrics(),
        "permissions.md": permissions(),
        "openapi.json": json.dumps(openapi, indent=2, ensure_ascii=False) + "\n",
        "settings.md": settings(),
        "topology.md": topology_page(),
        **schemas(),
        **pictures(),
        **slack_pictures(),
    }


def drift(wanted: Mapping[str, str], folder: Path = REFERENCE) -> dict[str, str]:
    """The files in `folder` that are not current, by path, and how each differs."""
    found = {}
    for path, text in wanted.items():
        file = folder / path
        if not file.is_file():
            found[path] = "is missing"
        elif file.read_bytes() != text.encode():
            found[path] = "differs from the code"
    # of these alone the names come and go with the code
    orphans = (file.relative_to(folder).as_posix() for file in folder.glob("schemas/*.json"))
    found |= {path: "is of nothing in the code" for path in orphans if path not in wanted}
    return dict(sorted(found.items()))


def write(wanted: Mapping[str, str], folder: Path = REFERENCE) -> dict[str, str]:
    """Bring `folder` to the documents; give what had to change, as `drift` does."""
    changed = drift(wanted, folder)
    for path in changed:
        file = folder / path
        if path in wanted:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(wanted[path].encode())
        else:
            file.unlink()
    return changed


def _contents() -> str:
    return page(
        "Reference",
        "All of it is read off the code by `make docs`; `make check` fails where it is not current.",
        bullets(
            (
                "[The command `countersign`](cli.md)",
                "[Settings](settings.md)",
                "[Errors](errors.md)",
                "[Metrics](metrics.md)",
                "[Permissions](permissions.md): roles, and who may call each endpoint",
                "[The HTTP API](openapi.json): OpenAPI 3.1; [its versions](api-versions.md)",
                "[The bus](asyncapi.yaml): AsyncAPI 3.0",
                "[Schemas](schemas/README.md): JSON Schema 2020-12 of every message and every declared file",
                "Pictures of [the watch](../how-to/approvals.md#watch) and of"
                " [Slack](../how-to/slack.md#more-than-yes-and-no): `pictures/`",
                "[Topology](topology.md): streams, consumers, buckets, permissions, keys",
            )
        ),
    )


def main(arguments: Sequence[str] | None = None, folder: Path = REFERENCE, grafana: Path = GRAFANA) -> int:
    """Write the documents and the dashboards to their folders, or compare them; give the exit code."""
    parser = argparse.ArgumentParser(description="Write docs/reference from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is not current")
    check = parser.parse_args(arguments).check
    found: dict[str, str] = {}
    for where, wanted, target in (
        ("docs/reference", documents(), folder),
        ("deploy/grafana/dashboards", dashboards(), grafana),
    ):
        changed = drift(wanted, target) if check else write(wanted, target)
        found |= {f"{where}/{path}": how for path, how in changed.items()}
    for path, how in found.items():
        print(f"{path} {how}{'' if check else '; mended'}")
    if found and check:
        print(f"{len(found)} generated documents are not current; run `{COMMAND}`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
