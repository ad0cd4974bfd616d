"""Who can be called, as the rules file names them. Secrets are never in the file: it says where they stand."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from services.alerting.delivery.addresses import SMTP_PORTS, check_host, check_port, check_url
from services.alerting.delivery.formats.email import address_of

NAME: Final = r"^[a-z0-9]+(-[a-z0-9]+)*$"
Name = Annotated[str, StringConstraints(pattern=NAME, max_length=60)]
Secret = Annotated[
    str, StringConstraints(pattern=r"^(file:/|file:\.|env:[A-Za-z_]).*", max_length=500)
]  # where a secret stands: file:/run/secrets/x or env:NAME
Header = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]*$", max_length=1000)]
OWN_HEADERS: Final = frozenset(
    {
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "upgrade",
        "expect",
        "te",
        "trailer",
        "user-agent",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    }
)
"""Headers that delivery sets, or that would change how the body is framed."""
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$", max_length=100)]


class _Receiver(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    resolved: bool = Field(True, description="Tell it when alerts have resolved.")


class _Http(_Receiver):
    url: str = Field("", max_length=2000, description="https address; or url_from.")
    url_from: Secret | None = Field(None, description="Where an address stands that is itself a secret.")
    local: bool = Field(
        False, description="Allow a private or loopback address and plain http: for a receiver on this network."
    )
    ca_file: str = Field(
        "", max_length=1000, description="PEM file of the authorities to trust instead of the usual ones."
    )

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        given = "url" in self.model_fields_set
        if given and self.url_from is not None:
            raise ValueError("give url or url_from, not both")
        if not self.url and self.url_from is None:
            raise ValueError("give url, or url_from where the address is itself a secret")
        if self.url_from is None:
            check_url(self.url, self.local)
        return self


class Webhook(_Http):
    """Standard Webhooks: signed, `{type, timestamp, data}`."""

    type: Literal["webhook"]
    signing_secrets: tuple[Secret, ...] = Field(
        min_length=1, max_length=2, description="whsec_...; two while one takes over from the other."
    )
    headers: dict[HeaderName, Header] = Field(default_factory=dict, max_length=10)

    @field_validator("headers")
    @classmethod
    def _not_ours(cls, headers: dict[str, str]) -> dict[str, str]:
        if taken := sorted(name for name in headers if name.lower() in OWN_HEADERS):
            raise ValueError(f"leave out {', '.join(taken)}: delivery sets it")
        if len({name.lower() for name in headers}) < len(headers):
            raise ValueError("a header is given twice")
        return headers


class Alertmanager(_Http):
    """The payload of Prometheus Alertmanager's webhook, version 4."""

    type: Literal["alertmanager"]
    bearer_token: Secret | None = None


class Slack(_Http):
    """A Slack incoming webhook, or what understands the same blocks."""

    type: Literal["slack"]


class Teams(_Http):
    """A Microsoft Teams workflow: an adaptive card."""

    type: Literal["teams"]


class PagerDuty(_Http):
    """PagerDuty Events API v2."""

    type: Literal["pagerduty"]
    url: str = "https://events.pagerduty.com/v2/enqueue"
    routing_key: Secret


class Email(_Receiver):
    """Mail by SMTP with TLS."""

    type: Literal["email"]
    host: str = Field(min_length=1, max_length=253)
    port: int = Field(587, ge=1, le=65535)
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    user: str = ""
    password: Secret | None = None
    sender: str = Field(min_length=3, max_length=320)
    to: tuple[str, ...] = Field(min_length=1, max_length=20)
    local: bool = Field(False, description="Allow a private or loopback address.")
    ca_file: str = Field(
        "", max_length=1000, description="PEM file of the authorities to trust instead of the usual ones."
    )

    @model_validator(mode="after")
    def _sendable(self) -> Self:
        check_host(self.host, self.local)
        check_port(self.port, self.local, SMTP_PORTS)
        address_of(self.sender)
        for recipient in self.to:
            address_of(recipient)
        if self.tls == "none" and not self.local:
            raise ValueError("tls: `none` is for servers with `local: true`; use starttls or implicit")
        if bool(self.user) is (self.password is None):
            raise ValueError("user and password go together")
        return self


class File(_Receiver):
    """A line of JSON per call, into a file or to stdout (`-`): for trying."""

    type: Literal["file"]
    path: str = Field(min_length=1, max_length=1000)


class Apprise(_Receiver):
    """Any of Apprise's services; needs the extra `touchstone-cx[apprise]`."""

    type: Literal["apprise"]
    url_from: Secret
    local: bool = Field(False, description="Allow a private or loopback address.")


Receiver = Annotated[
    Webhook | Alertmanager | Slack | Teams | PagerDuty | Email | File | Apprise, Field(discriminator="type")
]
