"""Whether a declared webhook makes sense: where it goes, what signs it; and whether alert rules name one there is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import SplitResult, urlsplit

from countersign_chassis.egress import refusal
from countersign_contracts.alert_rules import AlertRule
from countersign_contracts.approval_rules import ALERT_HOOKS, Webhook
from countersign_contracts.catalogue import FileError
from countersign_contracts.documents import Parsed

from .webhooks_signing import PREFIX

_LITERAL = re.compile(r"[0-9.]+|.*:.*")


def webhook_errors(
    item: Parsed, webhook: Webhook, fault: Callable[[str], str | None], names: Sequence[str]
) -> Iterator[FileError]:
    """Everything wrong with it; ``fault`` says what is wrong with a secret, ``names`` are those there are."""
    yield from _url_errors(item, webhook)
    if (wrong := fault(webhook.secret)) is not None:
        known = f"one of {', '.join(names)}; or" if names else ""
        file = f"a file of that name in its folder of webhook secrets, with `{PREFIX}` and 24 to 64 bytes in base64"
        yield item.error(("secret",), wrong, f"{known} {file}".strip())


def route_errors(item: Parsed, rule: AlertRule, webhooks: Mapping[str, Webhook]) -> Iterator[FileError]:
    """Routes of an alert rule to webhooks that are not there, or that take no alerts."""
    taking = sorted(name for name, webhook in webhooks.items() if set(webhook.events) & set(ALERT_HOOKS))
    for n, route in enumerate(rule.routes):
        _, _, name = route.partition(":")
        if name and name not in webhooks:
            known = f"one of {', '.join(taking)}; or declare it" if taking else "declare it"
            yield item.error(("routes", n), f"there is no webhook `{name}`", known)
        elif name and name not in taking:
            wanted = f"some of {', '.join(ALERT_HOOKS)} among its `events`"
            yield item.error(("routes", n), f"webhook `{name}` asks for no alerts", wanted)


def _url_errors(item: Parsed, webhook: Webhook) -> Iterator[FileError]:
    try:
        url = urlsplit(webhook.url)
        host, _ = url.hostname, url.port
    except ValueError as error:
        yield item.error(("url",), f"this is no URL: {error}", "https://host/path")
        return
    if any(ord(c) <= 0x20 or ord(c) > 0x7E for c in webhook.url):
        yield item.error(("url",), "a URL is printable ASCII without spaces", "percent-encode the rest")
    if url.scheme not in ("https", "http") or not host:
        yield item.error(("url",), "a webhook is posted to a host over https", "https://host/path")
        return
    if url.username is not None or url.password is not None:
        yield item.error(("url",), "credentials do not belong into a URL", "the signature says who posts")
    if url.fragment:
        yield item.error(("url",), "what follows `#` is never sent", "the URL without it")
    yield from _destination_errors(item, webhook, url, host)


def _destination_errors(item: Parsed, webhook: Webhook, url: SplitResult, host: str) -> Iterator[FileError]:
    """An address written as such is judged now; a name when it is resolved for a post."""
    if url.scheme == "http" and not webhook.allow_private:
        yield item.error(
            ("url",), "without https anybody on the way reads it", "https, or allow_private: true for a private address"
        )
        return
    if not _LITERAL.fullmatch(host):
        return
    reason = refusal(host, allow_private=webhook.allow_private, allow_public=url.scheme == "https")
    if reason is not None:
        opened = refusal(host, allow_private=True) is None and not webhook.allow_private
        yield item.error(("url",), reason, "allow_private: true" if opened else "https to a public address or name")
