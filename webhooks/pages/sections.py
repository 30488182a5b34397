"""What stands in the navigation, for whom."""

from dataclasses import dataclass

from flask import current_app

from curation.store.people import Role
from webhooks import auth

TITLES = {
    "overview.show": "Overview",
    "quality.show": "Label quality",
    "suspects.show": "Doubted labels",
    "listing.find": "Listings",
    "reports.show": "Reports",
    "runs.index": "Runs",
    "models.index": "Models",
    "exports.index": "Exports",
}
"""Endpoint → its name in the navigation, in that order; a page is shown to those who may open it."""


@dataclass(frozen=True, slots=True)
class Section:
    """One entry of the navigation."""

    endpoint: str
    title: str

    @property
    def blueprint(self) -> str:
        """Pages of one blueprint belong to one section."""
        return self.endpoint.partition(".")[0]


def sections(role: Role) -> list[Section]:
    """The pages that this role may open."""
    return [Section(*entry) for entry in TITLES.items() if role.covers(auth.role_of(current_app, entry[0]))]
