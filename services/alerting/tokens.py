"""Tokens of links: whoever holds one may do one thing about one case, for some time. Pure.

A token is ``<expiry>.<signature>``: seconds since 1970, and HMAC-SHA256 over the alert, the action and the expiry, in
URL-safe base64. It is no login: it says nothing of who follows the link, and cannot be used for another case or action.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

ACKNOWLEDGE: Final = "acknowledge"
MIN_KEY_BYTES: Final = 32
MOST_KEYS: Final = 2
MAX_TOKEN_CHARS: Final = 80
_TOKEN: Final = re.compile(r"([0-9]{1,12})\.([A-Za-z0-9_-]{43})", re.ASCII)
_PURPOSE: Final = "touchstone case link 1"


class TokenError(ValueError):
    """The token does not open this: it is not ours, for something else, or too old."""


class ExpiredTokenError(TokenError):
    """It was good, and its time is over."""


@dataclass(frozen=True, slots=True, repr=False)
class TokenKeys:
    """One key, or two while one takes over from the other: the first signs, both are accepted."""

    keys: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.keys) <= MOST_KEYS:
            raise ValueError(f"links need one key, or {MOST_KEYS} while one takes over; there are {len(self.keys)}")
        if any(len(key) < MIN_KEY_BYTES for key in self.keys):
            raise ValueError(f"a key for links needs at least {MIN_KEY_BYTES} bytes; `openssl rand -hex 32` makes one")

    def sign(self, alert_id: str, action: str, expires_s: int) -> str:
        """A token for one action on one case, good before ``expires_s`` seconds since 1970."""
        return f"{expires_s}.{_signature(self.keys[0], alert_id, action, expires_s)}"

    def check(self, token: str, alert_id: str, action: str, now_s: float) -> None:
        """TokenError unless the token is good for this; takes as long whichever key or byte is wrong."""
        match = _TOKEN.fullmatch(token) if len(token) <= MAX_TOKEN_CHARS else None
        if match is None:
            raise TokenError("this link is damaged: copy all of it")
        expires_s = int(match[1])
        good = False
        for key in self.keys:  # all of them, whichever matches
            good |= hmac.compare_digest(_signature(key, alert_id, action, expires_s), match[2])
        if not good or match[1] != str(expires_s):
            raise TokenError("this link is not for this case: copy all of it, or open the case with an API key")
        if now_s >= expires_s:
            raise ExpiredTokenError("this link is too old: open the case with `touchstone alerts` or an API key")


def acknowledge_url(base_url: str, alert_id: str, keys: TokenKeys, expires_s: int) -> str:
    """The address behind a call's link: the page of `services.alerting.app` whose button acknowledges."""
    return f"{base_url.rstrip('/')}/cases/{alert_id}?token={keys.sign(alert_id, ACKNOWLEDGE, expires_s)}"


def _signature(key: bytes, alert_id: str, action: str, expires_s: int) -> str:
    said = "".join(f"{len(part.encode())}:{part}" for part in (_PURPOSE, alert_id, action, str(expires_s)))
    digest = hmac.new(key, said.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
