"""Secrets that Label Studio puts into its bodies, taken out before anything is stored.

Every webhook body carries the project's `token` (it invites people) and its `task_data_password`;
an ML backend's `/setup` carries the `access_token` of the project's creator.
"""

import re

SECRETS = tuple(re.compile(name + rb'("\s*:\s*)"(?:[^"\\]|\\.)*+"') for name in (b"token", b"password"))
"""The end of a secret's key, and its string value. Inside a text every quote is escaped, so texts never match."""

REPLACEMENTS = (rb'token\1"REDACTED"', rb'password\1"REDACTED"')


def redact(body: bytes) -> bytes:
    """The body without secrets; any other byte stays, also of bodies that are not JSON."""
    for pattern, replacement in zip(SECRETS, REPLACEMENTS, strict=True):
        body = pattern.sub(replacement, body)
    return body
