"""Why an event was not accepted: a closed vocabulary, used as verdict reason, metric label and table value."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """One word per cause. Values are stable: dashboards and senders rely on them."""

    # at the edge, by the event's own content
    INVALID_JSON = "invalid_json"
    DUPLICATE_KEY = "duplicate_key"
    TOO_DEEP = "too_deep"
    TOO_LARGE = "too_large"
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"
    UNKNOWN_KIND = "unknown_kind"
    RESERVED_KIND = "reserved_kind"
    INVALID_VALUE = "invalid_value"
    OUT_OF_RANGE = "out_of_range"
    TOO_LONG = "too_long"
    INVALID_TIME = "invalid_time"
    FUTURE_TIME = "future_time"
    # at the edge, by circumstance; the event may be sent again
    UNAVAILABLE = "unavailable"
    # in the log, by a record's bytes
    NOT_SINGLE_OBJECT = "not_single_object"
    UNKNOWN_SCHEMA = "unknown_schema"
    UNDECODABLE = "undecodable"
    OUT_OF_CONTRACT = "out_of_contract"
    WRONG_PARTITION = "wrong_partition"
    UNUSABLE_MODEL = "unusable_model"


class Verdict(StrEnum):
    """What became of one event in a request; only ``retry`` may be sent again."""

    OK = "ok"
    WARNING = "warning"
    DROP = "drop"
    RETRY = "retry"
