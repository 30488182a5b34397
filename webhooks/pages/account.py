"""Sign in, sign out, and one's own account."""

from flask import Blueprint, Response, g, redirect, render_template, request, session, url_for
from sqlalchemy import select
from werkzeug.wrappers import Response as Answer

from curation import telemetry
from curation.errors import InputError
from curation.store import people, sessions
from curation.store.people import Role
from curation.store.service_tables import User
from webhooks import auth, refused, service

WRONG = "That name and password do not belong together. Try again, or ask an admin for a new password."

log = telemetry.logger("account")
blueprint = Blueprint("account", __name__)


@blueprint.route("/login", methods=["GET", "POST"])
def sign_in() -> str | Answer | tuple[str, int]:
    """The form, and what it sends. A new key is made at each sign-in, so that none can be planted beforehand."""
    here = service.current()
    if request.method == "GET":
        return _form()
    auth.csrf.protect()
    name, password = request.form.get("name", ""), request.form.get("password", "")
    here.limits.hit("sign in", f"address {request.remote_addr}")  # by name alone a stranger could lock anybody out
    with here.workspace.db.read() as reading:
        person = people.check(reading, name, password)
        known = name if person is None and people.is_known(reading, name) else refused.UNKNOWN
    if person is None:
        refused.note(known, "wrong name or password")  # what was typed as an unknown name may have been a password
        return _form(WRONG, name), 401
    with here.workspace.db.write() as writing:
        key = sessions.begin(writing, person, now=here.workspace.db.now(writing))
    session.clear()
    session.permanent = True
    session[auth.COOKIE_KEY], session[auth.COOKIE_NAME] = key, person.name
    log.info("signed in", name=person.name)
    return redirect(_local(request.args.get("next", "")), 303)


@blueprint.post("/logout")
@auth.needs(Role.MODERATOR)
def sign_out() -> Answer:
    """End the session, here and in the database."""
    key = session.pop(auth.COOKIE_KEY, None)
    session.clear()
    if isinstance(key, str):
        with service.current().workspace.db.write() as writing:
            sessions.end(writing, key)
    return redirect(url_for("account.sign_in"), 303)


@blueprint.get("/account")
@auth.needs(Role.MODERATOR)
def show(error: str = "") -> str:
    """Who one is, and a form for another password."""
    return render_template("account.html", person=g.person, least=people.PASSWORD_MIN_LENGTH, error=error)


@blueprint.post("/account")
@auth.needs(Role.MODERATOR)
def change_password() -> Answer | tuple[str, int]:
    """Another password; everything that was signed in with the old one is signed out."""
    here = service.current()
    here.limits.hit("sign in", f"person {g.person.name}")
    with here.workspace.db.read() as reading:
        is_mine = people.check(reading, g.person.name, request.form.get("old", "")) is not None
    if not is_mine:
        return show("The present password is not right; nothing was changed."), 400
    try:
        with here.workspace.db.write() as writing:
            people.set_password(writing, g.person.name, request.form.get("new", ""))
    except InputError as error:
        return show(str(error)), 400
    session.clear()
    return redirect(url_for("account.sign_in"), 303)


def _form(error: str = "", name: str = "") -> str:
    with service.current().workspace.db.read() as reading:
        is_first = reading.execute(select(User.id).where(User.password_hash.is_not(None)).limit(1)).first() is None
    return render_template("login.html", error=error, name=name, is_first=is_first)


def _local(address: str) -> str:
    """Where to go on: an address of our own, never another site's."""
    is_ours = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if is_ours else url_for("overview.show")


def to_sign_in() -> Response | Answer:
    """The way to the form, and from there back to what was asked for."""
    asked = request.full_path.rstrip("?") if request.method == "GET" else None
    return redirect(url_for("account.sign_in", next=asked if asked != "/" else None), 303)
