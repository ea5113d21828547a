"""`countersign people`: who may decide, and how they prove who they are."""

from __future__ import annotations

import io
import re
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.text import Text

from countersign_contracts.errors import CountersignError

from ..client import Client, segment
from ..output import Misused, ago, command, console, errors, print_json, table

app = typer.Typer(
    no_args_is_help=True, help="People: who may approve, operate and read, and how they prove who they are."
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
#: A code with a typing error is typed again; a wrong secret is not found out by trying.
_TRIES = 3


@app.command()
@command
def add(
    name: str,
    role: Annotated[list[str], typer.Option(help="admin, operator, approver, reader or a declared role; several.")],
    group: Annotated[
        list[str] | None, typer.Option(help="A group; repeat for several. Without, a known person keeps theirs.")
    ] = None,
    json: Json = False,
) -> None:
    """Add a person, or give a known one a new token; it is shown this once."""
    issued = Client.find().post("/api/v1/people", {"name": name, "roles": role, "groups": group or None})
    if json:
        return print_json(issued)
    console.print(f"{name} has {', '.join(issued['roles'])}. The token, shown only now:\n{issued['token']}")


@app.command("list")
@command
def list_(json: Json = False) -> None:
    """List people, their roles and groups, and how they prove who they are."""
    found = list(Client.find().all("/api/v1/people"))
    if json:
        return print_json({"items": found})
    rows = [
        (
            p["name"],
            ", ".join(p["roles"]),
            ", ".join(p.get("groups", [])),
            proofs(p),
            p["status"],
            ago(p["created_at"]),
        )
        for p in found
    ]
    table(("NAME", "ROLES", "GROUPS", "ALSO BY", "STATUS", "ADDED"), rows, "nobody")


def proofs(person: Any) -> str:
    """How a person proves who they are, besides their token."""
    slack = [f"Slack {each['identity']}" for each in person.get("channels", []) if each["channel"] == "slack"]
    return ", ".join([*slack, *(["one-time codes"] if person.get("totp") else [])])


@app.command()
@command
def remove(name: str) -> None:
    """Remove a person: their token, groups, Slack users and one-time codes are void."""
    Client.find().delete(f"/api/v1/people/{segment(name)}")
    console.print(f"{name} is removed")


@app.command()
@command
def whoami(json: Json = False) -> None:
    """Whose token this is, and what it may."""
    me = Client.find().get("/api/v1/me")
    if json:
        return print_json(me)
    rows = [("name", me["name"]), ("roles", ", ".join(me["roles"])), ("may", ", ".join(me["permissions"]))]
    rows += [("groups", ", ".join(me.get("groups", [])))]
    rows += [("also by", proofs(me))]
    table(("", ""), rows, "")


@app.command()
@command
def roles(json: Json = False) -> None:
    """List roles and what each allows; others than the built-in ones are declared (kind: role)."""
    found = Client.find().get("/api/v1/roles")
    if json:
        return print_json(found)
    rows = [
        (r["name"], "built in" if r["built_in"] else "declared", r["people"], ", ".join(r["permissions"]))
        for r in found["items"]
    ]
    table(("ROLE", "", "PEOPLE", "MAY"), rows, "no role")


@app.command("set-roles")
@command
def set_roles(
    name: str,
    role: Annotated[list[str], typer.Option(help="A role; repeat for several. Those not named are taken away.")],
    json: Json = False,
) -> None:
    """The roles a person has from now on, and no others; their token and logins stay."""
    view = Client.find().send("PUT", f"/api/v1/people/{segment(name)}/roles", {"roles": role})
    if json:
        return print_json(view)
    console.print(f"{escape(name)} has {', '.join(view['roles'])}")


@app.command("remove-role")
@command
def remove_role(name: str) -> None:
    """Remove a declared role that nobody has."""
    Client.find().delete(f"/api/v1/roles/{segment(name)}")
    console.print(f"role {escape(name)} is removed")


@app.command()
@command
def groups(
    name: str,
    group: Annotated[list[str] | None, typer.Argument(help="The groups; those not named are left.")] = None,
    none: Annotated[bool, typer.Option("--none", help="No group at all.")] = False,
    json: Json = False,
) -> None:
    """The groups a person is in from now on, and no others. A team is the group of its name."""
    if none == bool(group):
        raise Misused(f"name the groups that {name} is in from now on, or say --none; `countersign people list` shows")
    view = Client.find().send("PUT", f"/api/v1/people/{segment(name)}/groups", {"groups": group or []})
    if json:
        return print_json(view)
    console.print(f"{name} is in " + (escape(", ".join(view["groups"])) if view.get("groups") else "no group"))


@app.command("link-slack")
@command
def link_slack(json: Json = False) -> None:
    """Become known in Slack: shows a code to type there, which counts once and for 10 minutes."""
    client = Client.find()
    me = client.get("/api/v1/me")
    issued = client.post("/api/v1/me/channels/slack", None)
    if json:
        return print_json(issued | {"name": me["name"], "type": f"/countersign link {issued['code']}"})
    console.print(
        f"Type this in Slack, in any channel or in a message to the app, {ago(issued['expires_at'])}:\n\n"
        f"  /countersign link {issued['code']}\n\n"
        f"Whoever types it is {escape(me['name'])} there: show it to nobody. An earlier code is void."
    )


@app.command("unlink-slack")
@command
def unlink_slack(
    identity: Annotated[
        str | None, typer.Argument(help="TEAM/USER, e.g. T012AB/U345CD; not needed where there is just one.")
    ] = None,
    person: Annotated[str | None, typer.Option(help="Whose; an admin's choice. Default: yours.")] = None,
    json: Json = False,
) -> None:
    """A Slack user is this person no more."""
    if identity is not None and not re.fullmatch(r"[A-Z0-9]{1,32}/[A-Z0-9]{1,32}", identity):
        raise Misused(
            f"`{identity}` is no Slack user: TEAM/USER, e.g. T012AB/U345CD; `countersign people whoami` shows"
        )
    client = Client.find()
    me = client.get("/api/v1/me")
    name = person or me["name"]
    whose = me if name == me["name"] else _person(client, name)
    identity = identity or _only(name, [c["identity"] for c in whose.get("channels", []) if c["channel"] == "slack"])
    view = client.delete(f"/api/v1/people/{segment(name)}/channels/slack/{identity}")
    if json:
        return print_json(view)
    console.print(f"{escape(name)} is not {identity} any more")


def _person(client: Client, name: str) -> Any:
    for each in client.get("/api/v1/people")["items"]:
        if each["name"] == name:
            return each
    raise CountersignError(f"there is no person `{name}`; `countersign people list` shows them", code="not_found")


def _only(name: str, identities: list[str]) -> str:
    if not identities:
        raise CountersignError(f"{name} is linked to no Slack user", code="not_found")
    if len(identities) > 1:
        raise Misused(f"{name} is {', '.join(identities)} in Slack: say which")
    return identities[0]


@app.command()
@command
def totp(
    remove: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Remove that person's; your own takes a code of it, another's an admin."),
    ] = None,
    code: Annotated[
        str | None, typer.Option(help="A code of the present generator, where there is one; asked for otherwise.")
    ] = None,
    confirm: Annotated[
        str | None, typer.Option(metavar="CODE", help="Only confirm: the first code of the generator just set up.")
    ] = None,
    json: Json = False,
) -> None:
    """Set up one-time codes (an authenticator app), which votes on what is critical may need."""
    client = Client.find()
    if confirm is not None:
        view = client.post("/api/v1/me/totp/confirm", {"code": confirm})
        return print_json(view) if json else console.print(_CONFIRMED)
    me = client.get("/api/v1/me")
    if code is None and me.get("totp") and remove in (None, me["name"]):
        code = _ask("A code of your present generator")
    if remove is not None:
        headers = {"X-One-Time-Code": code} if code is not None else {}
        view = client.send("DELETE", f"/api/v1/people/{segment(remove)}/totp", headers=headers)
        return print_json(view) if json else console.print(f"{escape(remove)} has no one-time codes any more")
    new = client.post("/api/v1/me/totp", {"code": code} if code is not None else {})
    if json:
        return print_json(new)
    _show(new)
    for left in reversed(range(_TRIES)):
        try:
            client.post("/api/v1/me/totp/confirm", {"code": _ask("The first code it shows")})
            break
        except CountersignError as error:
            if left == 0 or error.code not in ("wrong_code", "invalid"):
                raise
            errors.print(f"[red]error:[/] {escape(error.detail)}")
    console.print(_CONFIRMED)


_CONFIRMED = "Your one-time codes count from now on."


def _ask(what: str) -> str:
    return re.sub(r"\s", "", str(typer.prompt(what, err=True)))


def _show(new: Any) -> None:
    import segno

    if console.is_terminal:
        drawn = io.StringIO()
        segno.make(new["uri"], micro=False, error="l").terminal(out=drawn, compact=True, border=2)
        console.print("Scan this with an authenticator app (or give it the secret below); it is shown only now:")
        # light on dark, whatever the terminal's colours are
        console.print(Text(drawn.getvalue().rstrip("\n"), style="#ffffff on #000000"), soft_wrap=True)
    else:
        console.print("Give this to an authenticator app; it is shown only now:")
    console.print(f"secret  {new['secret']}\nuri     {escape(new['uri'])}")
