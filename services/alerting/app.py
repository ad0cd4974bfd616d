"""The HTTP shell of alerting: alerts and cases, steps of cases into the log, and whether a customer may be surveyed.

A step is answered with 202 once the log has acknowledged it; the tables show it a second or two later. Links of calls
lead to a page; only its button acknowledges.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, quote

import orjson
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from schemas.case import MAX_NAME_CHARS
from services.alerting import cases
from services.alerting.case_bodies import Acknowledge, Assign, Close
from services.alerting.case_ports import MOST_ROWS, Asked, CasePorts, StandingByError
from services.alerting.case_tables import ALERT_FILTERS, CASE_FILTERS
from services.alerting.cases import BadStepError, Case, CaseError
from services.alerting.http_problems import MEDIA_TYPE, problem
from services.alerting.keys import KeyRing
from services.alerting.openapi import openapi_document
from services.alerting.pages import HEADERS, case_page, message_page
from services.alerting.permission import permission
from services.alerting.tokens import ACKNOWLEDGE, TokenError

_log: Final = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 16_384
TRY_AGAIN_S: Final = 2
_JSON: Final = "application/json"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FROM_A_LINK: Final = "somebody with the link"
_READY_TIMEOUT_S: Final = 2.0

Body = TypeVar("Body", bound=BaseModel)
Handler = Callable[[Request], Awaitable[Response]]


class _AnswerError(Exception):
    """A refusal on its way out of a handler."""

    def __init__(self, status: int, code: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.headers = status, code, detail, headers


class _Desk:
    """Takes requests."""

    def __init__(self, ports: CasePorts) -> None:
        self._ports = ports
        self._keys = KeyRing(ports.api_keys)

    # What is asked.

    async def get_alerts(self, request: Request) -> Response:
        """``GET /v1/alerts``."""
        asked = _asked(request, ALERT_FILTERS)
        rows = await self._wait(self._ports.reader.alerts, asked)
        return _page("alerts", [_with_times(row) for row in rows], asked, "fired_us", "alert_id", rows)

    async def get_cases(self, request: Request) -> Response:
        """``GET /v1/cases``."""
        asked = _asked(request, CASE_FILTERS, "overdue")
        found = await self._wait(self._ports.reader.cases, asked)
        rows = [asdict(case) for case in found]
        return _page("cases", [_with_times(row) for row in rows], asked, "opened_us", "case_id", rows)

    async def get_case(self, request: Request) -> Response:
        """``GET /v1/cases/{id}``."""
        case = await self._case(request)
        steps = await self._wait(self._ports.reader.steps, case)
        return _json({**_with_times(asdict(case)), "steps": [_with_times(asdict(step)) for step in steps]})

    async def get_permission(self, request: Request) -> Response:
        """``GET /v1/customers/{id}/survey-permission``."""
        customer = request.path_params["customer_id"]
        try:
            facts = await self._wait(self._ports.reader.survey_facts, customer)
            answer = permission(facts, self._ports.guard(), self._ports.now_us())
        except _AnswerError:
            raise
        except Exception as error:  # whatever it is, nobody may take it for a permission
            _log.error("survey permission cannot be told", exc_info=error)
            raise _unavailable("It cannot be told; do not ask the customer now.") from error
        return _json(
            {
                "customer_id": customer,
                "allowed": answer.allowed,
                "reasons": list(answer.reasons),
                "ask_again_at": _time(answer.ask_again_us),
            }
        )

    # What is done.

    async def post_acknowledge(self, request: Request) -> Response:
        """``POST /v1/cases/{id}/acknowledge``."""
        body = await _body(request, Acknowledge)
        case = await self._case(request)
        return await self._append(case, lambda at_us: cases.acknowledge(case, body.by, at_us, body.note))

    async def post_assign(self, request: Request) -> Response:
        """``POST /v1/cases/{id}/assign``."""
        body = await _body(request, Assign)
        case = await self._case(request)
        return await self._append(case, lambda at_us: cases.assign(case, body.owner, body.by, at_us))

    async def post_close(self, request: Request) -> Response:
        """``POST /v1/cases/{id}/close``."""
        body = await _body(request, Close)
        case = await self._case(request)

        def records_at(at_us: int) -> tuple[bytes, ...]:
            return cases.close(
                case,
                body.outcome,
                body.by,
                at_us,
                note=body.note,
                complaint=body.complaint,
                contacted=body.contacted,
            )

        return await self._append(case, records_at)

    async def post_resend(self, request: Request) -> Response:
        """``POST /v1/calls/{id}/resend``."""
        call_id = request.path_params["call_id"]
        try:
            if self._ports.resend is None:
                raise StandingByError
            await self._ports.resend(call_id)
        except LookupError as error:
            raise _AnswerError(404, "no_such_call", str(error)) from error
        except StandingByError as error:
            raise _unavailable("Another process calls; ask that one.") from error
        except self._ports.transient as error:
            _log.warning("not answered: %s", error)
            raise _unavailable("The tables do not answer; ask again.") from error
        return _json({"call_id": call_id}, 202)

    # Links of calls.

    async def get_page(self, request: Request) -> Response:
        """``GET /cases/{id}?token=...``: shows, and changes nothing."""
        self._opened_by(request)
        case = await self._case(request)
        return HTMLResponse(case_page(case, f"/cases/{quote(case.case_id)}?token={quote(_token(request))}"))

    async def post_page(self, request: Request) -> Response:
        """``POST /cases/{id}?token=...``: the button."""
        self._opened_by(request)
        form = parse_qs((await _read(request)).decode("utf-8", "replace"), max_num_fields=10)
        by = " ".join(form.get("by", [""])[0].split())[:MAX_NAME_CHARS] or _FROM_A_LINK
        case = await self._case(request)
        await self._append(case, lambda at_us: cases.acknowledge(case, by, at_us))
        said = f"The case is yours, {by}." if by != _FROM_A_LINK else "The case is acknowledged."
        return HTMLResponse(message_page("Acknowledged", said))

    def _opened_by(self, request: Request) -> None:
        if self._ports.token_keys is None:
            raise _AnswerError(404, "not_found", "There are no links here: no key for them is set.")
        try:
            case_id = request.path_params["case_id"]
            self._ports.token_keys.check(_token(request), case_id, ACKNOWLEDGE, self._ports.now_us() / 1e6)
        except TokenError as error:
            raise _AnswerError(403, "bad_link", str(error)) from None

    # Health.

    async def get_ready(self, _: Request) -> Response:
        """``GET /health/ready``: the tables answer. Steps are tried when there are some."""
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                await self._wait(self._ports.reader.ready)
        except TimeoutError:
            raise _unavailable("The tables do not answer in time.") from None
        return Response(b'{"status":"ready"}', media_type=_JSON)

    # Shared.

    def with_key(self, handler: Handler) -> Handler:
        """Only for who has an API key, where one is asked for; refusals as problem details."""

        async def guarded(request: Request) -> Response:
            headers = request.headers
            if not self._keys.admits(headers.get("authorization", ""), headers.get("x-api-key", "")):
                detail = "Send a known key as Authorization: Bearer or as X-API-Key."
                return _refusal(
                    request,
                    _AnswerError(401, "unauthorized", detail, **{"www-authenticate": 'Bearer realm="touchstone"'}),
                )
            return await answered(handler)(request)

        return guarded

    async def _wait(self, ask: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await asyncio.to_thread(ask, *arguments)
        except self._ports.transient as error:
            _log.warning("not answered: %s", error)
            raise _unavailable("The tables do not answer; ask again.") from error

    async def _case(self, request: Request) -> Case:
        case_id = request.path_params["case_id"]
        case = await self._wait(self._ports.reader.case, case_id)
        if case is None:
            detail = "There is no such case: cases are alerts about customers that somebody was called for."
            raise _AnswerError(404, "not_found", detail)
        found: Case = case
        return found

    async def _append(self, case: Case, records_at: Callable[[int], tuple[bytes, ...]]) -> Response:
        now_us = self._ports.now_us()
        try:
            records = records_at(now_us)
        except BadStepError as error:
            raise _AnswerError(422, "bad_step", str(error)) from None
        except CaseError as error:
            raise _AnswerError(409, "case_closed", str(error)) from None
        if records:
            customers = [case.customer_id] * len(records)
            try:
                await asyncio.to_thread(self._ports.append, customers, records, now_us // 1000)
            except self._ports.transient as error:
                _log.warning("no step of a case taken: %s", error)
                raise _unavailable("Kafka did not take the step in time; send it again, it counts once.") from error
        return _json({"case_id": case.case_id, "appended": len(records)}, 202 if records else 200)


def _token(request: Request) -> str:
    return request.query_params.get("token", "")


def _unavailable(detail: str) -> _AnswerError:
    return _AnswerError(503, "unavailable", detail, **{"retry-after": str(TRY_AGAIN_S)})


def _asked(request: Request, filters: tuple[str, ...], *flags: str) -> Asked:
    given = dict(request.query_params)
    known = {*filters, *flags, "since", "after", "limit"}
    if unknown := sorted(set(given) - known):
        raise _AnswerError(422, "unknown_filter", f"{', '.join(unknown)}: there are {', '.join(sorted(known))}.")
    try:
        limit = int(given.get("limit", "50"))
        at, _, last = given.get("after", "").partition("~")
        after = (int(at), last) if at else None
        since_us = _moment_us(given["since"]) if "since" in given else 0
    except ValueError as error:
        raise _AnswerError(422, "bad_filter", f"limit, since or after cannot be read: {error}.") from None
    if not 1 <= limit <= MOST_ROWS:
        raise _AnswerError(422, "bad_filter", f"limit must be 1 to {MOST_ROWS}.")
    if given.get("overdue", "true") != "true":
        raise _AnswerError(422, "bad_filter", "overdue must be true, or left out.")
    if after is not None and not 0 <= after[0] < 1 << 62:
        raise _AnswerError(422, "bad_filter", "after must be what the page before gave as next.")
    equal = {name: given[name] for name in filters if name in given}
    return Asked(equal, since_us, "overdue" in given, after, limit)


def _moment_us(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return max(0, (moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH) // timedelta(microseconds=1))


def _page(
    name: str, shown: list[dict[str, Any]], asked: Asked, moment: str, key: str, rows: list[dict[str, Any]]
) -> Response:
    more = rows and len(rows) == asked.limit
    at = rows[-1].get(moment, rows[-1].get(moment.replace("_us", "_at"))) if more else 0
    return _json({name: shown, "next": f"{at}~{rows[-1][key]}" if more else None})


def _with_times(row: Mapping[str, Any]) -> dict[str, Any]:
    """Times as ISO 8601, null for never; ``_us`` of names becomes ``_at``."""
    shown: dict[str, Any] = {}
    for name, value in row.items():
        if name.endswith(("_us", "_at")):
            shown[name.removesuffix("_us") + "_at" if name.endswith("_us") else name] = _time(value)
        elif name == "reasons":
            shown[name] = [{"reason": reason, "log_odds": log_odds} for reason, log_odds in value]
        else:
            shown[name] = value
    return shown


def _time(at_us: int) -> str | None:
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat().replace("+00:00", "Z") if at_us else None


def _json(value: Mapping[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, {"cache-control": "no-store"}, _JSON)


async def _read(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                detail = f"A body may have {MAX_BODY_BYTES} bytes."
                raise _AnswerError(413, "too_large", detail, connection="close")
    except ClientDisconnect:
        raise _AnswerError(400, "disconnected", "The connection ended before the body did.") from None
    return bytes(body)


async def _body(request: Request, shape: type[Body]) -> Body:
    body = await _read(request)
    try:
        return shape.model_validate_json(body or b"{}")
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in error.errors())
        raise _AnswerError(422, "bad_body", said) from None


def _refusal(request: Request, answer: _AnswerError) -> Response:
    document = problem(answer.status, answer.code, answer.detail, request.url.path)
    return Response(document, answer.status, answer.headers, MEDIA_TYPE)


def answered(handler: Handler) -> Handler:
    """Refusals as problem details."""

    async def refusing(request: Request) -> Response:
        try:
            return await handler(request)
        except _AnswerError as answer:
            return _refusal(request, answer)

    return refusing


def _as_page(handler: Handler) -> Handler:
    """Refusals as a page for people; the headers that keep the address to itself on all of it."""

    async def page(request: Request) -> Response:
        try:
            response = await handler(request)
        except _AnswerError as answer:
            content = message_page("This does not work", answer.detail)
            response = HTMLResponse(content, answer.status, answer.headers)
        response.headers.update(HEADERS)
        return response

    return page


async def _get_live(_: Request) -> Response:
    return Response(b'{"status":"live"}', media_type=_JSON)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "error")
    detail = "GET /openapi.json tells what there is."
    answer = _AnswerError(error.status_code, code, detail, **dict(error.headers or {}))
    return _refusal(request, answer)


async def _on_crash(request: Request, error: Exception) -> Response:
    _log.error("request failed", exc_info=error)
    return _refusal(
        request, _AnswerError(500, "internal", "This is a fault of the server; ask again, steps count once.")
    )


def alerting_app(ports: CasePorts) -> Starlette:
    """All routes. Fail closed: what cannot be told now is 503, never a permission."""
    desk = _Desk(ports)
    described = orjson.dumps(openapi_document(with_keys=bool(ports.api_keys)), option=orjson.OPT_INDENT_2)

    async def get_openapi(_: Request) -> Response:
        return Response(described, media_type=_JSON)

    return Starlette(
        routes=[
            Route("/v1/alerts", desk.with_key(desk.get_alerts)),
            Route("/v1/cases", desk.with_key(desk.get_cases)),
            Route("/v1/cases/{case_id}", desk.with_key(desk.get_case)),
            Route("/v1/cases/{case_id}/acknowledge", desk.with_key(desk.post_acknowledge), methods=["POST"]),
            Route("/v1/cases/{case_id}/assign", desk.with_key(desk.post_assign), methods=["POST"]),
            Route("/v1/cases/{case_id}/close", desk.with_key(desk.post_close), methods=["POST"]),
            Route("/v1/calls/{call_id}/resend", desk.with_key(desk.post_resend), methods=["POST"]),
            Route("/v1/customers/{customer_id:path}/survey-permission", desk.with_key(desk.get_permission)),
            Route("/cases/{case_id}", _as_page(desk.get_page), methods=["GET"]),
            Route("/cases/{case_id}", _as_page(desk.post_page), methods=["POST"]),
            Route("/health/live", _get_live),
            Route("/health/ready", answered(desk.get_ready)),
            Route("/openapi.json", get_openapi),
        ],
        exception_handlers={HTTPException: _on_http_error, Exception: _on_crash},
    )
