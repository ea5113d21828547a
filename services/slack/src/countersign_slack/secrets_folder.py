"""The folder with Slack's tokens and the channels: what is there, what is missing, and which way Slack reaches us."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from countersign_contracts.errors import CountersignError

BOT_TOKEN, APP_TOKEN, SIGNING_SECRET, CHANNELS = "bot-token", "app-token", "signing-secret", "channels.yaml"
Mode = Literal["socket", "http"]

_BEGINS = {BOT_TOKEN: "xoxb-", APP_TOKEN: "xapp-"}
_CHANNEL = re.compile(r"^[CG][A-Z0-9]{1,31}$")


@dataclass(frozen=True, slots=True)
class Workspace:
    """What the service needs to speak with one Slack workspace. ``channels``: by team or group, and ``default``."""

    mode: Mode
    bot_token: str
    app_token: str | None
    signing_secret: str | None
    channels: Mapping[str, str]


def is_configured(folder: Path) -> bool:
    """Whether anybody has begun to configure Slack there."""
    return any((folder / name).is_file() for name in (BOT_TOKEN, APP_TOKEN, SIGNING_SECRET, CHANNELS))


def read_workspace(folder: Path, mode: Mode | None = None) -> Workspace:
    """Read the folder; raises :class:`CountersignError` with one line that says what is missing or wrong."""
    found = {name: text for name in (BOT_TOKEN, APP_TOKEN, SIGNING_SECRET) if (text := _read(folder / name))}
    for name, begins in _BEGINS.items():
        if name in found and not found[name].startswith(begins):
            raise CountersignError(f"{folder / name} holds no such token: it begins with {begins}")
    mode = mode or ("http" if SIGNING_SECRET in found and APP_TOKEN not in found else "socket")
    needed = (BOT_TOKEN, APP_TOKEN if mode == "socket" else SIGNING_SECRET)
    missing = [name for name in needed if name not in found]
    if not (folder / CHANNELS).is_file():
        missing.append(CHANNELS)
    if missing:
        raise CountersignError(
            f"Slack is half configured: {folder} lacks {', '.join(missing)}; {mode} mode needs {', '.join(needed)} and"
            f" {CHANNELS} (docs/how-to/slack.md)"
        )
    return Workspace(mode, found[BOT_TOKEN], found.get(APP_TOKEN), found.get(SIGNING_SECRET), _channels(folder))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise CountersignError(f"cannot read {path}: {error}") from None


def _channels(folder: Path) -> dict[str, str]:
    path = folder / CHANNELS
    try:
        found = yaml.safe_load(_read(path))
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        raise CountersignError(f"{path}{f', line {where.line + 1}' if where else ''}: this is no YAML") from None
    if not isinstance(found, dict) or "default" not in found:
        raise CountersignError(f"{path} needs `default: <channel id>`, and may have a line for each team or group")
    for name, channel in found.items():
        if not isinstance(name, str) or not isinstance(channel, str) or not _CHANNEL.fullmatch(channel):
            raise CountersignError(
                f"{path}: {name!s} has {channel!r}; it takes a channel's id such as C0123456789 (in Slack: the"
                " channel's name, then About)"
            )
    return found
