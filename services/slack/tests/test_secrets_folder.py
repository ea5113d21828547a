"""The folder with tokens and channels: which way Slack reaches us, and one line for what is missing or wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from countersign_contracts.errors import CountersignError
from countersign_slack.secrets_folder import is_configured, read_workspace

BOT, APP, SECRET = {"bot-token": "xoxb-1"}, {"app-token": "xapp-1"}, {"signing-secret": "s"}
CHANNELS = {"channels.yaml": "default: C0DEFAULT\npayments: C0PAY\n"}


def put(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text + "\n")
    return folder


@pytest.mark.parametrize(
    ("files", "wanted", "mode"),
    [
        (BOT | APP | CHANNELS, None, "socket"),
        (BOT | SECRET | CHANNELS, None, "http"),
        (BOT | APP | SECRET | CHANNELS, None, "socket"),
        (BOT | APP | SECRET | CHANNELS, "http", "http"),
    ],
)
def test_socket_mode_is_the_default_where_it_can_be(tmp_path: Path, files: Any, wanted: Any, mode: str) -> None:
    found = read_workspace(put(tmp_path, files), wanted)
    assert (found.mode, found.bot_token) == (mode, "xoxb-1")
    assert found.channels == {"default": "C0DEFAULT", "payments": "C0PAY"}


@pytest.mark.parametrize(
    ("files", "mode", "says"),
    [
        (BOT, None, "lacks app-token, channels.yaml; socket mode needs bot-token, app-token and channels.yaml"),
        (APP | CHANNELS, None, "lacks bot-token;"),
        (SECRET | CHANNELS, None, "lacks bot-token; http mode needs bot-token, signing-secret"),
        (BOT | APP | CHANNELS, "http", "lacks signing-secret"),
        (BOT | APP, None, "lacks channels.yaml"),
        ({"bot-token": "xapp-1"} | APP | CHANNELS, None, "bot-token holds no such token: it begins with xoxb-"),
        (BOT | {"app-token": "1"} | CHANNELS, None, "begins with xapp-"),
        (BOT | APP | {"channels.yaml": "- C0"}, None, "needs `default: <channel id>`"),
        (BOT | APP | {"channels.yaml": "ops: C0"}, None, "needs `default: <channel id>`"),
        (BOT | APP | {"channels.yaml": "default: '#approvals'"}, None, "takes a channel's id such as C0123456789"),
        (BOT | APP | {"channels.yaml": "default: [C0]"}, None, "takes a channel's id"),
        (BOT | APP | {"channels.yaml": "default: C0\nops: {"}, None, "line 2: this is no YAML"),
    ],
)
def test_what_is_missing_or_wrong_is_one_line(tmp_path: Path, files: Any, mode: Any, says: str) -> None:
    with pytest.raises(CountersignError) as wrong:
        read_workspace(put(tmp_path, files), mode)
    assert says in wrong.value.detail and "\n" not in wrong.value.detail
    assert "xoxb-1" not in wrong.value.detail, "no token in a message"


def test_an_empty_folder_is_no_slack_and_anything_in_it_is_the_beginning_of_one(tmp_path: Path) -> None:
    assert not is_configured(tmp_path) and not is_configured(tmp_path / "none")
    assert is_configured(put(tmp_path, SECRET))
