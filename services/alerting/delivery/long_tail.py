"""Apprise, for services that have no format here. An optional extra: ``pip install touchstone-cx[apprise]``.

Its plugins connect by themselves, so our guard cannot stand in their way: what the address names is checked before each
attempt, redirects are off, and no more is promised.
"""

from __future__ import annotations

import asyncio
import importlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from services.alerting.delivery.addresses import AddressRefusedError, check_host
from services.alerting.delivery.connect import Resolver, checked_addresses
from services.alerting.delivery.formats import plain
from services.alerting.delivery.http import describe
from services.alerting.delivery.retry import Answer, Verdict
from services.alerting.document import Document

MOST_S: Final = 15.0
ANY_PORT: Final = 443


class ExtraMissingError(RuntimeError):
    """The extra is not installed."""


class LongTail:
    """Sends through Apprise, in threads of its own."""

    def __init__(self, *, local: bool) -> None:
        """Raises `ExtraMissingError`."""
        try:
            self._apprise: Any = importlib.import_module("apprise")
        except ModuleNotFoundError as error:
            raise ExtraMissingError(
                "receivers of type apprise need the extra: pip install 'touchstone-cx[apprise]'"
            ) from error
        self._local = local
        self._resolver = Resolver()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="alert-apprise")

    async def send(self, url: str, document: Document) -> Answer:
        """Try once. Apprise says only whether it went well."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(MOST_S):
                service = await loop.run_in_executor(self._threads, self._service, url)
                if service is None:
                    return Answer(Verdict.RETRY, detail="url_from: not an address that Apprise knows")
                host = getattr(service, "host", None)
                if host:
                    check_host(host, self._local, "url_from")
                    await checked_addresses(host, ANY_PORT, self._local, self._resolver)
                delivered = await loop.run_in_executor(self._threads, self._notify, service, document)
        except AddressRefusedError as error:
            return Answer(Verdict.RETRY, detail=f"refused: {error}")
        except TimeoutError:
            return Answer(Verdict.RETRY, detail=f"no whole answer within {MOST_S:g} s")
        except OSError as error:
            return Answer(Verdict.RETRY, detail=describe(error))
        if delivered:
            return Answer(Verdict.DELIVERED)
        return Answer(Verdict.RETRY, detail="Apprise could not deliver it; try its address with the command `apprise`")

    async def close(self) -> None:
        self._resolver.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _service(self, url: str) -> Any:
        asset = self._apprise.AppriseAsset(http_redirects=False, app_id="Touchstone", app_desc="Touchstone")
        service = self._apprise.Apprise.instantiate(url, asset=asset)
        if service is not None:
            service.redirects = False  # whatever the address says
        return service

    def _notify(self, service: Any, document: Document) -> bool:
        return bool(
            service.notify(body=plain.text(document), title=plain.title(document), notify_type=plain.kind(document))
        )
