"""The API as an OpenAPI 3.1 document, made from the event types and the published examples."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Final

from schemas.metrics import METRICS
from schemas.reasons import Reason, Verdict
from schemas.touchpoint import EVENT
from services.ingest.limits import Limits
from services.ingest.problems import MEDIA_TYPE, STATUS_OF, TITLES

_EVENTS_PATH: Final = "/v1/events"
_SHOWN: Final = ("interaction", "survey_response", "complaint_opened", "purchase", "cancellation")
"""Examples shown with the operation; all of them are in schemas/examples."""


def _good_example(name: str) -> dict[str, Any]:
    path = resources.files("schemas") / "examples" / "touchpoint" / "ok" / f"{name}.json"
    example: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return example


def _needs(member: str, *others: str) -> dict[str, Any]:
    """If ``member`` is there and not null, each of ``others`` is too."""
    there = {"not": {"type": "null"}}
    return {
        "if": {"required": [member], "properties": {member: there}},
        "then": {"required": list(others), "properties": dict.fromkeys(others, there)},
    }


def _close_maps(definition: dict[str, Any]) -> None:
    """Pydantic says what a key must look like to have a value of the right sort; others are refused, too."""
    for member in definition["properties"].values():
        for choice in member.get("anyOf", ()):
            if "patternProperties" in choice:
                choice["additionalProperties"] = False


def _conditions(definition: dict[str, Any]) -> list[dict[str, Any]]:
    """What takes two members to tell, as `schemas.touchpoint.to_record` checks it."""
    members = definition["properties"]
    conditions: list[dict[str, Any]] = []
    if "rating" in members:
        conditions += [_needs("metric", "rating"), _needs("rating", "metric")]
        conditions += [
            {
                "if": {"required": ["metric"], "properties": {"metric": {"const": metric}}},
                "then": {
                    "properties": {
                        "rating": {
                            "type": ["integer" if scale.whole else "number", "null"],
                            "minimum": scale.low,
                            "maximum": scale.high,
                        }
                    }
                },
            }
            for metric, scale in METRICS.items()
        ]
    if "intensity" in members:
        conditions += [_needs("intensity", "emotion"), _needs("confidence", "emotion")]
    if "amount" in members:
        conditions += [_needs("amount", "currency"), _needs("currency", "amount")]
    return conditions


def _schemas() -> dict[str, Any]:
    event = EVENT.json_schema(ref_template="#/components/schemas/{model}")
    definitions: dict[str, Any] = event.pop("$defs")
    for definition in definitions.values():
        _close_maps(definition)
        conditions = _conditions(definition)
        if conditions:
            definition["allOf"] = conditions
    result = {
        "type": "object",
        "required": ["event_id", "verdict"],
        "properties": {
            "event_id": {"type": ["string", "null"], "description": "As it was sent; null if it could not be read."},
            "verdict": {
                "enum": [verdict.value for verdict in Verdict],
                "description": "ok, warning: in the log. drop: refused, sending it again changes nothing. "
                "retry: not in the log, send it again.",
            },
            "reason": {"enum": [reason.value for reason in Reason], "description": "Absent with ok."},
            "field": {"type": "string", "description": "JSON pointer into the event; empty for the whole event."},
            "detail": {"type": "string", "description": "What is wrong and what to do."},
        },
    }
    counts = {
        "results": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/Result"},
            "description": "A verdict per event, in the order sent.",
        },
        "accepted": {"type": "integer", "minimum": 0, "description": "Events that are in the log."},
        "refused": {"type": "integer", "minimum": 0, "description": "Events refused for good."},
        "retry": {"type": "integer", "minimum": 1, "description": "Events to send again (status 503 only)."},
    }
    problem = {
        "type": "object",
        "description": "RFC 9457 problem details.",
        "required": ["type", "title", "status", "detail", "instance", "code", "message", "errors"],
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "What is wrong and what to do."},
            "instance": {"type": "string"},
            "code": {"type": "string", "description": "The reason as one word."},
            "message": {"type": "string", "description": "The same as detail."},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["pointer", "code", "detail"],
                    "properties": {
                        "pointer": {"type": "string", "description": "JSON pointer into the body."},
                        "code": {"type": "string"},
                        "detail": {"type": "string"},
                    },
                },
            },
            **counts,
        },
    }
    accepted = {
        "type": "object",
        "required": ["results", "accepted", "refused"],
        "properties": {name: counts[name] for name in ("results", "accepted", "refused")},
    }
    return definitions | {"Event": event, "Result": result, "Accepted": accepted, "Problem": problem}


def _problem_response(status: int, description: str, **headers: Any) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if headers:
        response["headers"] = headers
    return response


def _responses(*, with_keys: bool) -> dict[str, Any]:
    of_status: dict[int, list[str]] = {}
    for reason in Reason:
        of_status.setdefault(STATUS_OF.get(reason, 422), []).append(reason.value)
    retry_after = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
    accepted_example = {
        "results": [
            {"event_id": "visit 4711/a", "verdict": "ok"},
            {
                "event_id": "visit 4711/b",
                "verdict": "drop",
                "reason": "unknown_kind",
                "field": "/kind",
                "detail": "kind must be one of interaction, survey_response, ...",
            },
        ],
        "accepted": 1,
        "refused": 1,
    }
    responses = {
        "202": {
            "description": "At least one event was accepted. All accepted ones are acknowledged by Kafka.",
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/Accepted"},
                    "example": accepted_example,
                }
            },
        },
        "400": _problem_response(400, f"{TITLES[400]}: {', '.join(of_status[400])}, a corrupt packed body."),
        "408": _problem_response(408, TITLES[408] + "."),
        "413": _problem_response(413, TITLES[413] + ": body or single event."),
        "415": _problem_response(415, TITLES[415] + ": Content-Encoding may be gzip or zstd."),
        "422": _problem_response(422, TITLES[422] + "; `results` and `errors` say why."),
        "429": _problem_response(
            429, TITLES[429] + ": from this sender, or from all. Nothing was taken; send all again.", **retry_after
        ),
        "500": _problem_response(500, TITLES[500] + "."),
        "503": _problem_response(503, TITLES[503] + "; send those with verdict `retry` again.", **retry_after),
    }
    if with_keys:
        responses["401"] = _problem_response(401, TITLES[401] + ".")
    return dict(sorted(responses.items()))


def openapi_document(limits: Limits, *, with_keys: bool) -> dict[str, Any]:
    """The document as served at ``/openapi.json``."""
    shown = {name: _good_example(name) for name in _SHOWN}
    examples = {name: {"summary": example["why"], "value": example["event"]} for name, example in shown.items()}
    batch = [example["event"] for example in shown.values()][:2]
    lines = "\n".join(json.dumps(event, ensure_ascii=False) for event in batch)
    one_or_many = {
        "oneOf": [
            {"$ref": "#/components/schemas/Event"},
            {
                "type": "array",
                "items": {"$ref": "#/components/schemas/Event"},
                "minItems": 1,
                "maxItems": limits.max_batch_events,
            },
        ]
    }
    operation: dict[str, Any] = {
        "operationId": "postEvents",
        "summary": "Send touchpoint events: one, an array, or one a line.",
        "description": (
            "Each event gets a verdict of its own; one bad event takes no other with it. 202 is answered after Kafka "
            "has acknowledged every accepted event. Sending an event again with the same source and event_id "
            "changes nothing, so any request may be repeated.\n\n"
            f"Limits: body {limits.max_body_bytes} bytes (packed and unpacked), {limits.max_batch_events} events, "
            f"{limits.max_event_bytes} bytes an event. Times more than "
            f"{limits.future_refused_us // 1_000_000} s ahead of their arrival are refused, old ones are welcome. "
            "Bodies may be packed with Content-Encoding gzip or zstd."
        ),
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": one_or_many,
                    "examples": examples | {"batch": {"summary": "Several at once.", "value": batch}},
                },
                "application/x-ndjson": {
                    "schema": {"type": "string", "description": "One event a line; blank lines are skipped."},
                    "examples": {"lines": {"summary": "One a line.", "value": lines}},
                },
            },
        },
        "responses": _responses(with_keys=with_keys),
    }
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Touchstone ingest",
            "version": "1",
            "description": "Takes what customers experience, event by event.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {_EVENTS_PATH: {"post": operation}, **_service_paths()},
        "components": {"schemas": _schemas()},
    }
    if with_keys:
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "basic": {"type": "http", "scheme": "basic", "description": "The key as user name."},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        operation["security"] = [{"bearer": []}, {"basic": []}, {"header": []}]
    return document


def _service_paths() -> dict[str, Any]:
    status = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}

    def get(name: str, summary: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
        ok = {"description": summary, "content": {media_type: {"schema": schema}}}
        return {"get": {"operationId": name, "summary": summary, "responses": {"200": ok}}}

    ready = get("getReady", "Kafka answers and has the topics.", "application/json", status)
    ready["get"]["responses"]["503"] = _problem_response(503, "Kafka does not answer, or topics are missing.")
    return {
        "/health/live": get("getLive", "The process is up.", "application/json", status),
        "/health/ready": ready,
        "/metrics": get("getMetrics", "Counts for Prometheus.", "text/plain", {"type": "string"}),
    }
