"""What a package of an agent says of itself in ``.env.discovery``, read and checked. Pure.

After the OPMAS specification, section 3. The file has a line for each key, ``KEY=value``; a value may stand in single
or double quotes, and a line that begins with ``#`` is a comment. Nothing in it is expanded or executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import TypeAdapter, ValidationError

from countersign_contracts.catalogue import FileError
from countersign_contracts.fleet import AgentType
from countersign_contracts.packages import AgentPackage, Topic
from countersign_contracts.plain_text import one_line

FILE = ".env.discovery"
MAX_BYTES = 16 * 1024

REQUIRED = ("AGENT_NAME", "AGENT_VERSION", "AGENT_DESCRIPTION", "DEFAULT_SUBSCRIBED_TOPICS", "DEFAULT_FINDINGS_TOPIC")
OPTIONAL = ("AGENT_TYPE", "COUNTERSIGN_VERSION")
_KEYS = ", ".join((*REQUIRED, *OPTIONAL))

_LINE = re.compile(r"(?:export[ \t]+)?(?P<key>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(?P<value>.*)")
_TYPE: TypeAdapter[str] = TypeAdapter(AgentType)
_TOPIC: TypeAdapter[str] = TypeAdapter(Topic)
_TYPE_HINT = "a lower-case letter, then at most 62 lower-case letters, digits, `-` or `_`"
_TOPIC_HINT = "words of letters, digits, `-` and `_` with dots between them, at most eight; no wildcards"
_MOST_TOPICS = 32


@dataclass(frozen=True, slots=True)
class Value:
    """What stands after ``KEY=``, and in which line."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Found:
    """A package that is well, and in which line of its file its type and its name stand (none: by its folder)."""

    package: AgentPackage
    file: str
    type_line: int | None
    name_line: int | None


@dataclass
class _Reading:
    """The errors of one file."""

    file: str
    errors: list[FileError] = field(default_factory=list)

    def wrong(self, line: int | None, key: str | None, message: str, allowed: str | None) -> None:
        self.errors.append(FileError(path=self.file, line=line, field=key, message=message, allowed=allowed))


def read_package(folder: str, body: bytes, version: str) -> tuple[Found | None, list[FileError]]:
    """The package in ``folder``, whose file ``.env.discovery`` holds ``body``; or everything that is wrong with it.

    ``version`` is Countersign's own, which the package's declared range must hold.
    """
    reading = _Reading(f"{folder}/{FILE}")
    values = _values(body, reading)
    if values is None:
        return None, reading.errors
    for key in REQUIRED:
        if key not in values and not any(error.field == key for error in reading.errors):
            reading.wrong(None, key, f"`{key}` is missing", f"a line `{key}=…`")
    kind = _type(values.get("AGENT_TYPE"), folder, reading)
    name = _text(values.get("AGENT_NAME"), "AGENT_NAME", 128, reading)
    release = _version(values.get("AGENT_VERSION"), reading)
    description = _text(values.get("AGENT_DESCRIPTION"), "AGENT_DESCRIPTION", 500, reading)
    subscribed = _topics(values.get("DEFAULT_SUBSCRIBED_TOPICS"), reading)
    findings = _topic(values.get("DEFAULT_FINDINGS_TOPIC"), "DEFAULT_FINDINGS_TOPIC", reading)
    fits = _range(values.get("COUNTERSIGN_VERSION"), version, reading)
    if findings is not None and findings in subscribed:
        line = values["DEFAULT_FINDINGS_TOPIC"].line
        reading.wrong(line, "DEFAULT_FINDINGS_TOPIC", f"`{findings}` is a subscribed topic too", "a topic of its own")
    if reading.errors or kind is None or name is None or release is None or description is None or findings is None:
        return None, reading.errors
    package = AgentPackage(
        agent_type=kind,
        name=name,
        version=release,
        description=description,
        subscribed_topics=tuple(subscribed),
        findings_topic=findings,
        countersign_version=fits,
        path=folder,
    )
    type_line = values["AGENT_TYPE"].line if "AGENT_TYPE" in values else None
    return Found(package, reading.file, type_line, values["AGENT_NAME"].line), []


def conflicts(found: Sequence[Found]) -> tuple[list[Found], list[FileError]]:
    """The packages that no other one's type or name stands against, and an error for each of the others."""
    errors: list[FileError] = []
    bad: set[str] = set()
    for what, key in (("type", "AGENT_TYPE"), ("name", "AGENT_NAME")):
        groups: dict[str, list[Found]] = {}
        for each in found:
            name = each.package.agent_type if what == "type" else each.package.name.casefold()
            groups.setdefault(name, []).append(each)
        for group in groups.values():
            for each in group if len(group) > 1 else ():
                others = ", ".join(other.file for other in group if other is not each)
                shown = each.package.agent_type if what == "type" else each.package.name
                errors.append(
                    FileError(
                        path=each.file,
                        line=each.type_line if what == "type" else each.name_line,
                        field=key,
                        message=f"the {what} `{shown}` is also that of {others}",
                        allowed=f"a {what} of its own for each package",
                    )
                )
                bad.add(each.file)
    return [each for each in found if each.file not in bad], errors


@dataclass(frozen=True, slots=True)
class Difference:
    """What a scan found to be otherwise than it was."""

    new: tuple[AgentPackage, ...]
    changed: tuple[tuple[AgentPackage, AgentPackage], ...]
    gone: tuple[AgentPackage, ...]

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.gone)


def difference(known: Mapping[str, AgentPackage], found: Iterable[AgentPackage], faulty: Iterable[str]) -> Difference:
    """What changed of the packages that are ``known``, by type.

    A package in a folder of ``faulty`` that cannot be read now is not gone: it stays as it was read last.
    """
    now = {package.agent_type: package for package in found}
    unread = set(faulty)
    return Difference(
        new=tuple(package for kind, package in sorted(now.items()) if kind not in known),
        changed=tuple((known[kind], p) for kind, p in sorted(now.items()) if kind in known and known[kind] != p),
        gone=tuple(p for kind, p in sorted(known.items()) if kind not in now and p.path not in unread),
    )


# --- the file ---------------------------------------------------------------------------------------


def _values(body: bytes, reading: _Reading) -> dict[str, Value] | None:
    if len(body) > MAX_BYTES:
        reading.wrong(None, None, "the file is too large", f"at most {MAX_BYTES} bytes")
        return None
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        reading.wrong(body.count(b"\n", 0, error.start) + 1, None, "not UTF-8", "text in UTF-8")
        return None
    values: dict[str, Value] = {}
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = raw.strip(" \t\r")
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            reading.wrong(number, None, f"not `KEY=value`: {one_line(line, 60)}", "a key, `=`, a value; or a comment")
            continue
        key = match["key"]
        value = _unquoted(match["value"])
        if key not in REQUIRED and key not in OPTIONAL:
            reading.wrong(number, key[:64], f"`{one_line(key, 64)}` is no key of this file", _KEYS)
        elif value is None:
            reading.wrong(number, key, f"the quotes of `{key}` do not close", "one pair of quotes around the value")
        elif key in values:
            reading.wrong(number, key, f"`{key}` stands in line {values[key].line} already", "each key once")
        else:
            values[key] = Value(value, number)
    return values


def _unquoted(text: str) -> str | None:
    if text[:1] in ("'", '"'):
        return text[1:-1] if len(text) > 1 and text[-1] == text[0] and text[0] not in text[1:-1] else None
    return text.partition(" #")[0].strip(" \t")


def _text(value: Value | None, key: str, limit: int, reading: _Reading) -> str | None:
    if value is None:
        return None
    if value.text.strip() and value.text.isprintable() and len(value.text) <= limit:
        return value.text
    reading.wrong(
        value.line,
        key,
        f"`{key}` is blank, too long or holds characters that cannot be printed",
        f"printable text of at most {limit} characters",
    )
    return None


def _type(value: Value | None, folder: str, reading: _Reading) -> str | None:
    text = folder.rstrip("/").rpartition("/")[2] if value is None else value.text
    try:
        return _TYPE.validate_python(text)
    except ValidationError:
        what = f"`{one_line(text, 80)}` is no type of agents"
        if value is None:
            reading.wrong(None, "AGENT_TYPE", f"the folder's name {what}", f"a line `AGENT_TYPE=…`: {_TYPE_HINT}")
        else:
            reading.wrong(value.line, "AGENT_TYPE", what, _TYPE_HINT)
        return None


def _version(value: Value | None, reading: _Reading) -> str | None:
    if value is None:
        return None
    try:
        Version(value.text)
    except InvalidVersion:
        pass
    else:
        if len(value.text) <= 64:
            return value.text
    reading.wrong(
        value.line, "AGENT_VERSION", f"`{one_line(value.text, 80)}` is no version", "numbers with dots, e.g. 1.4.0"
    )
    return None


def _topics(value: Value | None, reading: _Reading) -> list[str]:
    if value is None:
        return []
    key = "DEFAULT_SUBSCRIBED_TOPICS"
    names = [part.strip(" \t") for part in value.text.split(",")] if value.text.strip() else []
    found: list[str] = []
    for name in names:
        topic = _topic(Value(name, value.line), key, reading)
        if topic in found:
            reading.wrong(value.line, key, f"topic `{topic}` is given twice", "each topic once")
        elif topic is not None:
            found.append(topic)
    if len(names) > _MOST_TOPICS:
        reading.wrong(value.line, key, f"{len(names)} topics", f"at most {_MOST_TOPICS}")
    return found


def _topic(value: Value | None, key: str, reading: _Reading) -> str | None:
    if value is None:
        return None
    try:
        return _TOPIC.validate_python(value.text)
    except ValidationError:
        reading.wrong(value.line, key, f"`{one_line(value.text, 80)}` is no topic", _TOPIC_HINT)
        return None


def _range(value: Value | None, version: str, reading: _Reading) -> str | None:
    if value is None:
        return None
    key = "COUNTERSIGN_VERSION"
    try:
        fits = SpecifierSet(value.text)
    except InvalidSpecifier:
        fits = None
    if fits is None or not value.text.strip() or len(value.text) > 128:
        what = f"`{one_line(value.text, 80)}` is no range of versions"
        reading.wrong(value.line, key, what, "comparisons with commas between them, e.g. >=0.1,<0.3")
        return None
    if not fits.contains(version, prereleases=True):
        what = f"the package is for Countersign {value.text}, and this is {version}"
        reading.wrong(value.line, key, what, "a package for this version")
    return value.text
