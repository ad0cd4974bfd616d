"""The OpenAPI document of alerting's HTTP interface, made from what the handlers go by. Pure."""

from __future__ import annotations

from typing import Any

from services.alerting.case_bodies import Acknowledge, Assign, Close
from services.alerting.case_ports import MOST_ROWS
from services.alerting.case_tables import ALERT_FILTERS, CASE_FILTERS
from services.alerting.permission import ASKED_LATELY, COMPLAINT_OPEN, FEEDBACK_UNANSWERED

_TIME = {"type": ["string", "null"], "format": "date-time"}
_TEXT, _NUMBER, _WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer"}


def openapi_document(*, with_keys: bool) -> dict[str, Any]:
    """OpenAPI 3.1. ``with_keys``: an API key is asked for."""
    bodies = {shape.__name__: shape.model_json_schema() for shape in (Acknowledge, Assign, Close)}
    secured: list[dict[str, list[str]]] = [{"bearer": []}, {"key": []}] if with_keys else []
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Touchstone alerting",
            "version": "1",
            "description": "Alerts on loyalty risk, the cases they open, and whether a customer may be surveyed.",
        },
        "security": secured,
        "paths": {
            "/v1/alerts": {"get": _listing("Alerts, the newest first.", "alerts", ALERT_FILTERS)},
            "/v1/cases": {"get": _listing("Cases, the newest first.", "cases", CASE_FILTERS, overdue=True)},
            "/v1/cases/{case_id}": {
                "parameters": [_path("case_id")],
                "get": {"summary": "A case and its steps.", "responses": _answers("Case", 200)},
            },
            **{
                f"/v1/cases/{{case_id}}/{name}": {
                    "parameters": [_path("case_id")],
                    "post": {
                        "summary": summary,
                        "description": "202: the log has it. 200: it had been done. Doing it twice counts once.",
                        "requestBody": {"content": _content(shape)},
                        "responses": _answers("Taken", 202, 200, 409, 413, 422),
                    },
                }
                for name, shape, summary in (
                    ("acknowledge", "Acknowledge", "Take a case on."),
                    ("assign", "Assign", "Give a case to somebody."),
                    ("close", "Close", "End a case; the customer's follow_up is appended with it."),
                )
            },
            "/v1/calls/{call_id}/resend": {
                "parameters": [_path("call_id")],
                "post": {
                    "summary": "Send a call again: one that was given up, or one that waits for its next attempt.",
                    "responses": _answers("Resent", 202),
                },
            },
            "/v1/customers/{customer_id}/survey-permission": {
                "parameters": [_path("customer_id")],
                "get": {
                    "summary": "May this customer be asked for feedback now? Do not ask without a 200 that allows it.",
                    "responses": _answers("Permission", 200),
                },
            },
            "/cases/{case_id}": {
                "parameters": [_path("case_id"), {**_query("token"), "required": True}],
                "get": {"summary": "The page behind a link; changes nothing.", "responses": _html(), "security": []},
                "post": {"summary": "The page's button: acknowledges.", "responses": _html(), "security": []},
            },
            "/health/live": {"get": {"summary": "The process runs.", "responses": {"200": _ok()}, "security": []}},
            "/health/ready": {
                "get": {"summary": "The tables answer.", "responses": {"200": _ok(), "503": _refused()}, "security": []}
            },
        },
        "components": {
            "schemas": bodies | _shapes(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }
    return document


def _shapes() -> dict[str, Any]:
    told = dict.fromkeys(("customer_id", "rule", "severity", "owner", "summary", "band", "segment"), _TEXT)
    told |= dict.fromkeys(("risk", "score", "value_at_risk"), _NUMBER)
    reason = {"type": "object", "properties": {"reason": _TEXT, "log_odds": _NUMBER}}
    step = dict.fromkeys(("step", "by", "owner", "outcome", "note"), _TEXT) | {"taken_at": _TIME}
    case_times = ("opened_at", "due_at", "acknowledged_at", "closed_at", "resolved_at")
    shapes = {
        "Alert": told
        | {"alert_id": _TEXT, "subject": _TEXT, "fate": _TEXT, "calls": _WHOLE, "delivered": _WHOLE}
        | dict.fromkeys(("fired_at", "resolved_at", "due_at", "delivered_at"), _TIME)
        | {"reasons": {"type": "array", "items": reason}},
        "Case": told
        | {"case_id": _TEXT, "state": {"enum": ["open", "acknowledged", "closed"]}, "overdue": {"type": "boolean"}}
        | dict.fromkeys(("acknowledged_by", "closed_by", "outcome"), _TEXT)
        | dict.fromkeys(case_times, _TIME)
        | {"notes": _WHOLE, "assignments": _WHOLE}
        | {"steps": {"type": "array", "items": {"type": "object", "properties": step}}},
        "Taken": {"case_id": _TEXT, "appended": {**_WHOLE, "description": "Events that went into the log."}},
        "Resent": {"call_id": _TEXT},
        "Permission": {
            "customer_id": _TEXT,
            "allowed": {"type": "boolean"},
            "reasons": {
                "type": "array",
                "items": {"enum": [FEEDBACK_UNANSWERED, COMPLAINT_OPEN, ASKED_LATELY]},
            },
            "ask_again_at": {**_TIME, "description": "When time alone will allow it; null: now, or nobody knows."},
        },
        "Problem": dict.fromkeys(("type", "title", "detail", "instance", "code", "message"), _TEXT)
        | {"status": _WHOLE},
    }
    return {name: {"type": "object", "properties": properties} for name, properties in shapes.items()}


def _listing(summary: str, name: str, filters: tuple[str, ...], *, overdue: bool = False) -> dict[str, Any]:
    rows = {"type": "array", "items": {"$ref": f"#/components/schemas/{name.removesuffix('s').capitalize()}"}}
    shape = {"type": "object", "properties": {name: rows, "next": {"type": ["string", "null"]}}}
    asked = [_query(each) for each in filters]
    asked += [{**_query("overdue"), "schema": {"enum": ["true"]}}] if overdue else []
    asked += [
        {**_query("since"), "schema": {"type": "string", "format": "date-time"}},
        {**_query("after"), "description": "`next` of the page before."},
        {**_query("limit"), "schema": {"type": "integer", "minimum": 1, "maximum": MOST_ROWS, "default": 50}},
    ]
    answers = {"200": {"description": "A page.", "content": {"application/json": {"schema": shape}}}}
    answers |= {status: _refused() for status in ("401", "422", "503")}
    return {"summary": summary, "parameters": asked, "responses": answers}


def _answers(shape: str, *statuses: int) -> dict[str, Any]:
    good = {str(status): {"description": shape, "content": _content(shape)} for status in statuses if status < 300}
    return good | {str(status): _refused() for status in (401, 404, *(s for s in statuses if s >= 300), 503)}


def _content(shape: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{shape}"}}}


def _refused() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": "Refused, and why.", "content": {"application/problem+json": {"schema": schema}}}


def _html() -> dict[str, Any]:
    page = {"text/html": {"schema": _TEXT}}
    return {status: {"description": "A page.", "content": page} for status in ("200", "403", "404", "409", "503")}


def _ok() -> dict[str, Any]:
    return {"description": "It does."}


def _path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT}


def _query(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": _TEXT}
