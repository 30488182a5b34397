"""Somebody who signs in and follows links, without a browser."""

import html
import re

import httpx

FILES = ("as=csv", "as=json", ".json", "/media/", "/metrics", "/static/", "/download", "/api/")


class Visitor:
    """A signed-in person at this address of the service."""

    def __init__(self, url: str, name: str, password: str) -> None:
        self.client = httpx.Client(base_url=url, headers={"Accept": "text/html"}, follow_redirects=True, timeout=60)
        form = {"csrf_token": self._csrf("/login"), "name": name, "password": password}
        self.client.post("/login", data=form).raise_for_status()

    def __enter__(self) -> "Visitor":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def get(self, path: str) -> httpx.Response:
        """The page at this path; an error status raises."""
        return self.client.get(path).raise_for_status()

    def post(self, path: str, form: dict[str, str], page: str) -> httpx.Response:
        """What a form of `page` sends."""
        return self.client.post(path, data={"csrf_token": self._csrf(page), **form})

    def pages(self) -> dict[str, str]:
        """One address of each kind of page that is reached by links: kind → path. `/runs/2?x=1` and `/runs/3` are one kind."""
        found: dict[str, str] = {}
        waiting = ["/", "/account"]
        while waiting:
            path = waiting.pop(0)
            if kind(path) in found:
                continue
            found[kind(path)] = path
            links = (html.unescape(link) for link in re.findall(r'href="(/[^"#]*)', self.get(path).text))
            waiting += [link for link in links if not any(part in link for part in FILES)]
        return found

    def _csrf(self, path: str) -> str:
        found = re.search(r'name="csrf_token" value="([^"]+)"', self.get(path).text)
        assert found is not None, f"{path} has no form"
        return found[1]


def kind(path: str) -> str:
    """The address without what differs from one listing, run or filter to the next."""
    parts = path.partition("?")[0].strip("/").split("/")
    named = [parts[0], *(re.sub(r".*\d.*", "#", part) for part in parts[1:3])]
    return "/".join([*named[:1], "#"] if parts[0] == "listing" and len(parts) > 1 else named) or "overview"
