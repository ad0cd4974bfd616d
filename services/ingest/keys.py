"""API keys: who may send. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Iterable


class KeyRing:
    """Compares a presented key with all known ones in a time that tells nothing about them."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    @property
    def open(self) -> bool:
        """No key is asked for."""
        return not self._digests

    def find(self, authorization: str | None, x_api_key: str | None) -> int | None:
        """Which known key the request's headers carry, as a number: Bearer, the user name of Basic, or X-API-Key.

        None if they carry none. Not to be asked of an open ring.
        """
        digest = hashlib.sha256((x_api_key or _key_in(authorization or "")).encode()).digest()
        found = -1
        for number, known in enumerate(self._digests):  # all of them, whichever matches
            found = number if hmac.compare_digest(digest, known) else found
        return found if found >= 0 else None


def _key_in(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def sender_at(host: str) -> str:
    """Whom an address stands for where no key does: itself, or the /64 that a single IPv6 customer is given."""
    if ":" not in host:
        return host
    try:
        return str(ipaddress.IPv6Network((host.partition("%")[0], 64), strict=False).network_address)
    except ValueError:
        return host
