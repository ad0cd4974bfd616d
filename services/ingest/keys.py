"""API keys: who may send. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable


class KeyRing:
    """Compares a presented key with all known ones in a time that tells nothing about them."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    @property
    def open(self) -> bool:
        """No key is asked for."""
        return not self._digests

    def admits(self, authorization: str | None, x_api_key: str | None) -> bool:
        """Whether the request's headers carry a known key: Bearer, the user name of Basic, or X-API-Key."""
        if self.open:
            return True
        digest = hashlib.sha256((x_api_key or _key_in(authorization or "")).encode()).digest()
        found = False
        for known in self._digests:  # all of them, whichever matches
            found |= hmac.compare_digest(digest, known)
        return found


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
