"""What `touchstone doctor` looks at in alerting: its answers, its rules, and whether receivers could be called.

Receivers are looked at from here: names resolve and secrets stand where this machine says, not where alerting runs. No
receiver is connected to, and no secret is shown.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from infra.embedded.probes import http_get
from services.alerting.settings import AlertingSettings
from services.cli.addresses import Addresses
from services.cli.findings import Finding
from services.cli.settings import PREFIX

if TYPE_CHECKING:  # rules load polars; where there are none they need not
    from services.alerting.delivery.connect import Resolve
    from services.alerting.delivery.receivers import Receiver
    from services.alerting.rules.model import RuleSet

TIMEOUT_S: Final = 5.0
_RULES: Final = f"{PREFIX}ALERTING_RULES"
_ONE_SECRET: Final = ("url_from", "bearer_token", "routing_key", "password")
_MEND: Final = "mend it in the rules file, or where it says; `touchstone doctor` looks again"


def check_alerting(where: Addresses) -> Finding:
    """Whether alerting answers, and can read its tables."""
    status, body = http_get(where.alerting_host, where.alerting_port, "/health/ready", timeout_s=TIMEOUT_S)
    if status == 200:
        return Finding("alerting", "ok", f"ready at {where.alerting_url}")
    why = body if status == 0 else f"HTTP {status} {body[:200]}"
    return Finding("alerting", "fail", f"{where.alerting_url}: {why}", "see its log; nobody is called meanwhile")


def check_rules(resolve: Resolve | None = None) -> Iterator[Finding]:
    """The rules file and each of its receivers. ``resolve`` replaces the machine's resolver."""
    try:
        path = AlertingSettings().rules
    except ValidationError as error:
        names = ", ".join(str(fault["loc"][0]) for fault in error.errors())
        yield Finding(
            "rules", "fail", f"settings of alerting are wrong: {names}", "docs/settings.md says what they take"
        )
        return
    if path is None:
        yield Finding("rules", "ok", f"{_RULES} is not set, so nobody is called")
        return
    from services.alerting.rules.read import RulesError, read_rules

    try:
        read = read_rules(path.read_bytes(), str(path))
    except OSError as error:
        yield Finding("rules", "fail", f"{path}: {error.strerror}", f"make it readable, or change {_RULES}")
        return
    except RulesError as error:
        said = "\n".join(map(str, error.findings))
        yield Finding("rules", "fail", f"cannot be used\n{said}", f"`touchstone alerts check {path}`")
        return
    rules = read.rules
    what = f"{path}: {len(rules.rules) + len(rules.focus)} rules, {len(rules.receivers)} receivers"
    doubts = "".join(f"\n{warning}" for warning in read.warnings)
    yield Finding("rules", "warn" if doubts else "ok", what + doubts, f"`touchstone alerts check {path}`")
    yield from _receivers(rules, resolve)


def _receivers(rules: RuleSet, resolve: Resolve | None) -> Iterator[Finding]:
    for receiver, faults in zip(rules.receivers, asyncio.run(_each(rules.receivers, resolve)), strict=True):
        detail = f"{receiver.name} ({receiver.type})"
        if faults:
            yield Finding("receiver", "fail", "\n".join([f"{detail} cannot be called", *faults]), _MEND)
        else:
            yield Finding("receiver", "ok", detail)


async def _each(receivers: Sequence[Receiver], resolve: Resolve | None) -> list[list[str]]:
    from services.alerting.delivery.connect import Resolver

    if resolve is not None:
        return list(await asyncio.gather(*(_faults(receiver, resolve) for receiver in receivers)))
    resolver = Resolver()
    try:
        return list(await asyncio.gather(*(_faults(receiver, resolver) for receiver in receivers)))
    finally:
        resolver.close()


async def _faults(receiver: Receiver, resolve: Resolve) -> list[str]:
    """What keeps a receiver from being called: secrets, authorities, address; empty where nothing does."""
    from services.alerting.delivery.receivers import Apprise, Email, File

    faults = _secret_faults(receiver)
    match receiver:
        case File():
            return faults + _file_faults(receiver.path)
        case Apprise():
            absent = find_spec("apprise") is None
            return [*faults, "the extra is missing: pip install 'touchstone-cx[apprise]'"] if absent else faults
        case Email():
            faults += _authority_faults(receiver.ca_file)
            return faults + await _address_faults(receiver.host, receiver.port, receiver.local, "host", resolve)
        case _:
            faults += _authority_faults(receiver.ca_file)
            return faults + await _url_faults(receiver, resolve)


def _secret_faults(receiver: Receiver) -> list[str]:
    from services.alerting.delivery.formats.webhook import SigningSecretError, key_of
    from services.alerting.delivery.secret import SecretUnreadableError, read_secret

    named: list[tuple[str, str]] = [
        (field, reference) for field in _ONE_SECRET if (reference := getattr(receiver, field, None)) is not None
    ]
    faults = []
    for field, reference in named:
        try:
            read_secret(reference, field)
        except SecretUnreadableError as error:
            faults.append(str(error))
    for place, reference in enumerate(getattr(receiver, "signing_secrets", ())):
        try:
            key_of(read_secret(reference, f"signing_secrets[{place}]"), place)
        except (SecretUnreadableError, SigningSecretError) as error:
            faults.append(str(error))
    return faults


def _authority_faults(ca_file: str) -> list[str]:
    from services.alerting.delivery.connect import tls_context

    try:
        tls_context(ca_file)
    except (OSError, ssl.SSLError) as error:
        return [f"ca_file: {ca_file} cannot be used: {error.strerror or type(error).__name__}"]
    return []


async def _url_faults(receiver: Receiver, resolve: Resolve) -> list[str]:
    from services.alerting.delivery.addresses import AddressRefusedError, parse_url
    from services.alerting.delivery.secret import SecretUnreadableError, read_secret

    url_from = getattr(receiver, "url_from", None)
    local = bool(getattr(receiver, "local", False))
    field = "url" if url_from is None else "url_from"
    try:
        target = parse_url(
            str(getattr(receiver, "url", "")) if url_from is None else read_secret(url_from, field), local
        )
    except SecretUnreadableError:
        return []  # told among the secrets
    except AddressRefusedError as error:
        return [str(error)]
    return await _address_faults(target.host, target.port, local, field, resolve)


async def _address_faults(host: str, port: int, local: bool, field: str, resolve: Resolve) -> list[str]:
    from services.alerting.delivery.addresses import AddressRefusedError
    from services.alerting.delivery.connect import checked_addresses

    try:
        async with asyncio.timeout(TIMEOUT_S):
            await checked_addresses(host, port, local, resolve)
    except AddressRefusedError as error:
        return [str(error)]
    except TimeoutError:
        return [f"{field}: the name does not resolve within {TIMEOUT_S:.0f} s"]
    except (OSError, UnicodeError) as error:
        return [f"{field}: the name does not resolve: {getattr(error, 'strerror', None) or type(error).__name__}"]
    return []


def _file_faults(path: str) -> list[str]:
    if path == "-":
        return []
    file = Path(path)
    place = file if file.exists() else file.parent
    return [] if os.access(place, os.W_OK) else [f"path: {path} cannot be written"]
