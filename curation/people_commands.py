"""Commands that say who may use the service: users and their API tokens."""

from dataclasses import asdict

import click

from curation import console
from curation.store import people, refusals, tokens
from curation.store.people import Role

ROLE = click.Choice([role.value for role in Role])


@click.group()
def user() -> None:
    """Who may sign in, and as what."""


@console.command("add", example="refurbish user add ada --role engineer")
@click.argument("name")
@click.option("--role", required=True, type=ROLE, help="What the person may do.")
@click.option("--ask", is_flag=True, help="Type the password instead of getting a random one.")
@console.pass_session
def user_add(session: console.Session, name: str, role: str, ask: bool, as_json: bool) -> None:
    """Let a person sign in (again), or give them another role and password. The password is shown once."""
    password = click.prompt("Password", hide_input=True, confirmation_prompt=True) if ask else people.make_password()
    workspace = session.workspace()
    with workspace.db.write() as writing:
        people.put(writing, name, Role(role), now=workspace.db.now(writing))
        people.enable(writing, name)
        people.set_password(writing, name, password)
    address = f"{workspace.settings.service_url}/login"
    console.emit({"name": name, "role": role, "sign_in_at": address} | ({} if ask else {"password": password}), as_json=as_json)


@console.command("list", example="refurbish user list")
@console.pass_session
def user_list(session: console.Session, as_json: bool) -> None:
    """Every person, and whether they may sign in."""
    with session.workspace().db.read() as reading:
        found = people.every(reading)
    rows = [(x.name, x.role, "yes" if x.has_password else "tokens only", x.created_at, x.disabled_at) for x in found]
    human = console.table(rows, ("name", "role", "signs in", "since", "disabled"))
    console.emit({"users": [asdict(entry) for entry in found]}, as_json=as_json, human=human)


@console.command("disable", example="refurbish user disable ada")
@click.argument("name")
@click.option("--undo", is_flag=True, help="Let them in again.")
@console.pass_session
def user_disable(session: console.Session, name: str, undo: bool, as_json: bool) -> None:
    """End what this person is signed in with, and their tokens, at once."""
    workspace = session.workspace()
    with workspace.db.write() as writing:
        if undo:
            people.enable(writing, name)
        else:
            people.disable(writing, name, now=workspace.db.now(writing))
    console.emit({"name": name, "disabled": not undo}, as_json=as_json)


@console.command("refused", example="refurbish user refused")
@click.option("--name", help="Only this person.")
@click.option("--limit", default=20, type=click.IntRange(1, 10_000), show_default=True, help="How many, newest first.")
@console.pass_session
def user_refused(session: console.Session, name: str | None, limit: int, as_json: bool) -> None:
    """Who was turned away: too small a role, a wrong password, a token or session that had ended; kept for 90 days."""
    with session.workspace().db.read() as reading:
        found = refusals.newest(reading, limit=limit, who=name)
    rows = [(one.at, one.who, one.why, f"{one.method} {one.route}", one.address, one.request_id) for one in found]
    human = console.table(rows, ("at", "who", "why", "asked for", "address", "request id"))
    console.emit({"refused": [asdict(one) for one in found]}, as_json=as_json, human=human)


@click.group()
def token() -> None:
    """Create and revoke API tokens."""


@console.command("create", example="refurbish token create ada --role moderator")
@click.argument("name")
@click.option("--role", required=True, type=ROLE, help="What the person may do.")
@console.pass_session
def token_create(session: console.Session, name: str, role: str, as_json: bool) -> None:
    """A token for this person, who is added or given this role. It is shown once: keep it."""
    workspace = session.workspace()
    with workspace.db.write() as writing:
        made = tokens.create(writing, name, Role(role), now=workspace.db.now(writing))
    console.emit({"name": name, "role": role, "token": made}, as_json=as_json)


@console.command("revoke", example="refurbish token revoke 3")
@click.argument("token_id", type=click.IntRange(1))
@console.pass_session
def token_revoke(session: console.Session, token_id: int, as_json: bool) -> None:
    """End a token at once."""
    workspace = session.workspace()
    with workspace.db.write() as writing:
        tokens.revoke(writing, token_id, now=workspace.db.now(writing))
    console.emit({"revoked": token_id}, as_json=as_json)


@console.command("list", example="refurbish token list")
@console.pass_session
def token_list(session: console.Session, as_json: bool) -> None:
    """Every token by id and person; never the token itself."""
    with session.workspace().db.read() as reading:
        found = tokens.newest(reading)
    rows = [(entry.id, entry.name, entry.role, entry.created_at, entry.revoked_at) for entry in found]
    human = console.table(rows, ("id", "name", "role", "created", "revoked"))
    console.emit({"tokens": [asdict(entry) for entry in found]}, as_json=as_json, human=human)


for _group, _commands in {
    user: (user_add, user_list, user_disable, user_refused),
    token: (token_create, token_revoke, token_list),
}.items():
    for _command in _commands:
        _group.add_command(_command)
