"""API keys: who may ask and act over HTTP. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable


class KeyRing:
    """Compares a presented key with all known ones in a time that tells nothing about them. The keys are those that
    senders of events use (``TOUCHSTONE_API_KEYS``)."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def admits(self, authorization: str, x_api_key: str) -> bool:
        """Whether a request's headers carry a known key, as Bearer or X-API-Key. True where no key is asked for."""
        scheme, _, bearer = authorization.partition(" ")
        key = x_api_key or (bearer.strip() if scheme.lower() == "bearer" else "")
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        found = not self._digests
        for known in self._digests:  # all of them, whichever matches
            found |= hmac.compare_digest(digest, known)
        return found
