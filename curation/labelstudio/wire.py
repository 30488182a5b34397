"""The HTTP connection to Label Studio: whatever it answers, what we send goes nowhere else.

A redirect would carry request bodies, and with them our webhook secret or the token that is exchanged for access, to an address
that nobody configured. So only reads are redirected, and only within the origin that the settings name.
"""

from typing import Final

import httpx

from curation.errors import LabelStudioError, shorten

READS: Final = frozenset({"GET", "HEAD"})
PORTS: Final = {"http": 80, "https": 443}


def opened(timeout_s: float) -> httpx.Client:
    """A client for the SDK and for our own requests. A redirect that it does not follow is a LabelStudioError."""
    return httpx.Client(timeout=timeout_s, follow_redirects=True, event_hooks={"response": [_stay]})


def _stay(reply: httpx.Response) -> None:
    """Refuse a redirect of a write, and one to another scheme, host or port."""
    if not reply.has_redirect_location:
        return
    asked, place = reply.request.url, reply.headers["Location"]
    try:
        is_here = _origin(asked.join(place)) == _origin(asked)
    except (httpx.InvalidURL, ValueError):
        is_here = False
    if reply.request.method in READS and is_here:
        return
    raise LabelStudioError(
        f"{asked.scheme}://{asked.netloc.decode('ascii')} redirects {reply.request.method} {asked.path} to {shorten(place)}, "
        "which was not followed; set label_studio_url to the address that answers itself"
    )


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or PORTS.get(url.scheme)
