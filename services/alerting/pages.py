"""The small page behind a link in a call: what the case is, and one button. No script, nothing loaded from anywhere.

Opening the page changes nothing, since mail scanners and chat previews open every link; only the button does.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from typing import Final

from jinja2 import Environment, StrictUndefined

from schemas.case import MAX_NAME_CHARS
from services.alerting.cases import Case, CaseState

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:2em auto;padding:0 1em;color:#1b1b1b}"
    "h1{font-size:1.3em}dt{color:#555;float:left;clear:left;width:8em}dd{margin:0 0 .3em 8em}"
    "button{font:inherit;padding:.5em 1.2em;margin-top:1em}input{font:inherit;padding:.4em}.late{color:#a40000}"
)
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex",
}
"""The address holds a token: it must not be kept, sent on or shown inside another page."""

_FRAME: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ title }}</title><style>{{ style }}</style></head><body><h1>{{ title }}</h1>
{% if said %}<p>{{ said }}</p>
{% endif %}
{% if case %}
<dl><dt>customer</dt><dd>{{ case.customer_id }}</dd>
<dt>what</dt><dd>{{ case.summary }}</dd>
<dt>rule</dt><dd>{{ case.rule }} ({{ case.severity }})</dd>
<dt>risk</dt><dd>{{ "%.0f"|format(100 * case.risk) }} % ({{ case.band }}),
value at risk {{ "%.2f"|format(case.value_at_risk) }}</dd>
<dt>owner</dt><dd>{{ case.owner or "nobody" }}</dd>
{% if due %}
<dt>due</dt><dd{% if case.overdue %} class="late"{% endif %}>{{ due }}{{ ", overdue" if case.overdue else "" }}</dd>
{% endif %}
<dt>state</dt><dd>{{ state }}</dd></dl>
{% endif %}
{% if action %}
<form method="post" action="{{ action }}">
<label>Your name <input name="by" maxlength="{{ longest }}" autocomplete="name"></label>
<br><button type="submit">Acknowledge</button></form>
{% endif %}
</body></html>
"""
_TEMPLATE: Final = Environment(
    autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
).from_string(_FRAME)


def case_page(case: Case, action: str) -> str:
    """The case, with a button that posts to ``action`` where it can still be acknowledged."""
    state = case.state.value
    if case.state is CaseState.ACKNOWLEDGED:
        state = f"acknowledged by {case.acknowledged_by}, {_moment(case.acknowledged_us)}"
    elif case.state is CaseState.CLOSED:
        state = f"closed by {case.closed_by}, {_moment(case.closed_us)}: {case.outcome}"
    return _render(
        "A customer is at risk",
        case=case,
        state=state,
        due=_moment(case.due_us),
        action=action if case.state is CaseState.OPEN else "",
    )


def message_page(title: str, said: str) -> str:
    """A sentence."""
    return _render(title, said=said)


def _render(
    title: str, *, said: str = "", case: Case | None = None, state: str = "", due: str = "", action: str = ""
) -> str:
    return _TEMPLATE.render(
        title=title,
        style=_STYLE,
        said=said,
        case=case,
        state=state,
        due=due,
        action=action,
        longest=MAX_NAME_CHARS,
    )


def _moment(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y-%m-%d %H:%M} UTC" if at_us else ""
