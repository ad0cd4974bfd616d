"""Cases over HTTP, before tables and a log that a test holds in its hands."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import httpx
import pytest

from schemas.decode import decode
from services.alerting.app import MAX_BODY_BYTES, _with_times, alerting_app
from services.alerting.case_ports import Asked, CasePorts, StepTaken
from services.alerting.cases import Case, CaseState
from services.alerting.permission import DAY_US, SurveyFacts
from services.alerting.tokens import ACKNOWLEDGE, TokenKeys, acknowledge_url
from tests.unit.alerting.case_examples import CLOSED, NOW_US, OPEN

pytestmark = pytest.mark.asyncio

KEY = "a-key-of-the-desk-1"
LINKS = TokenKeys((b"k" * 32,))
TOKEN = LINKS.sign(OPEN.case_id, ACKNOWLEDGE, NOW_US // 1_000_000 + 60)
PAGE = acknowledge_url("http://desk/", OPEN.case_id, LINKS, NOW_US // 1_000_000 + 60)


class DownError(Exception):
    """What tables and log raise while they are down."""


@dataclass
class Bench:
    """Tables with one case, and a log."""

    case_: Case = OPEN
    facts: SurveyFacts | None = None
    error: Exception | None = None
    asked: list[Asked] = field(default_factory=list)
    log: list[tuple[str, bytes]] = field(default_factory=list)

    def _answer(self, value: Any) -> Any:
        if self.error is not None:
            raise self.error
        return value

    def alerts(self, asked: Asked) -> Sequence[dict[str, Any]]:
        self.asked.append(asked)
        row = {"alert_id": "a", "fired_at": NOW_US, "resolved_at": 0, "reasons": [("open complaint", 0.5)]}
        return self._answer([row])  # type: ignore[no-any-return]

    def cases(self, asked: Asked) -> Sequence[Case]:
        self.asked.append(asked)
        return self._answer([self.case_])  # type: ignore[no-any-return]

    def case(self, case_id: str) -> Case | None:
        return self._answer(self.case_ if case_id == self.case_.case_id else None)  # type: ignore[no-any-return]

    def steps(self, case: Case) -> Sequence[StepTaken]:
        return self._answer([StepTaken(NOW_US, "acknowledged", "kim", "", "", "")])  # type: ignore[no-any-return]

    def survey_facts(self, customer_id: str) -> SurveyFacts | None:
        return self._answer(self.facts)  # type: ignore[no-any-return]

    def ready(self) -> None:
        self._answer(None)

    def append(self, customers: Sequence[str], values: Sequence[bytes], timestamp_ms: int) -> None:
        assert timestamp_ms == NOW_US // 1000
        self._answer(None)
        self.log += zip(customers, values, strict=True)

    @property
    def kinds(self) -> list[str]:
        return decode([value for _, value in self.log], b"markmark").frame["kind"].to_list()

    @asynccontextmanager
    async def client(self, key: str = KEY, **ports: Any) -> AsyncIterator[httpx.AsyncClient]:
        app = alerting_app(
            CasePorts(
                **{
                    "reader": self,
                    "append": self.append,
                    "transient": (DownError,),
                    "now_us": lambda: NOW_US,
                    "api_keys": (KEY, "another-key-of-the-desk"),
                    "token_keys": LINKS,
                    **ports,
                }
            )
        )
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://desk", headers=headers) as client:
            yield client


@pytest.fixture
def bench() -> Bench:
    return Bench()


def is_problem(response: httpx.Response, status: int, code: str) -> None:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    document = response.json()
    assert (document["status"], document["code"]) == (status, code)
    assert document["detail"]
    assert document["title"]


async def test_lists_and_pages(bench: Bench) -> None:
    async with bench.client() as client:
        page = (await client.get("/v1/cases?state=open&overdue=true&limit=1&since=2026-01-01")).json()
        assert page["cases"][0]["case_id"] == OPEN.case_id
        assert page["cases"][0]["acknowledged_at"] is None
        assert page["cases"][0]["opened_at"] == "2026-03-01T09:20:45Z"
        await client.get("/v1/cases", params={"after": page["next"]})
        alerts = (await client.get("/v1/alerts?fate=called&limit=1")).json()
        assert alerts["alerts"][0]["reasons"] == [{"reason": "open complaint", "log_odds": 0.5}]
        assert alerts["next"] == f"{NOW_US}~a"
        assert (await client.get("/v1/alerts")).json()["next"] is None
    first, second, third, _ = bench.asked
    assert (first.equal, first.overdue, first.limit, first.since_us) == (
        {"state": "open"},
        True,
        1,
        1_767_225_600_000_000,
    )
    assert second.after == (OPEN.opened_us, OPEN.case_id)
    assert third.equal == {"fate": "called"}


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "limit=x", "since=soon", "after=x~y", f"after={1 << 63}~a", "colour=red", "overdue=maybe"],
)
async def test_filters_that_make_no_sense(bench: Bench, query: str) -> None:
    async with bench.client() as client:
        response = await client.get(f"/v1/cases?{query}")
        assert response.status_code == 422, response.text
        assert bench.asked == []


async def test_one_case_with_its_steps(bench: Bench) -> None:
    async with bench.client() as client:
        case = (await client.get(f"/v1/cases/{OPEN.case_id}")).json()
        step = {"step": "acknowledged", "by": "kim", "owner": "", "outcome": "", "note": ""}
        assert case["steps"] == [{"taken_at": "2026-03-02T09:20:45Z", **step}]
        is_problem(await client.get("/v1/cases/none"), 404, "not_found")


@pytest.mark.parametrize(
    ("path", "body", "kinds"),
    [
        ("acknowledge", {}, ["case_step"]),
        ("assign", {"owner": "lee", "by": "kim"}, ["case_step"]),
        ("close", {"outcome": "succeeded"}, ["case_step", "follow_up"]),
        ("close", {"outcome": "failed", "contacted": False}, ["case_step"]),
        ("close", {"outcome": "succeeded", "complaint": "T-1"}, ["case_step", "follow_up", "complaint_resolved"]),
    ],
)
async def test_steps_are_in_the_log_before_the_answer(
    bench: Bench, path: str, body: dict[str, Any], kinds: list[str]
) -> None:
    async with bench.client() as client:
        response = await client.post(f"/v1/cases/{OPEN.case_id}/{path}", json=body)
        assert (response.status_code, response.json()) == (202, {"case_id": OPEN.case_id, "appended": len(kinds)})
    assert bench.kinds == kinds
    assert {customer for customer, _ in bench.log} == {"ada"}


async def test_what_is_done_is_done(bench: Bench) -> None:
    bench.case_ = replace(OPEN, state=CaseState.ACKNOWLEDGED, acknowledged_by="lee", acknowledged_us=NOW_US)
    async with bench.client() as client:
        assert (await client.post(f"/v1/cases/{OPEN.case_id}/acknowledge")).status_code == 200
        bench.case_ = CLOSED
        is_problem(await client.post(f"/v1/cases/{OPEN.case_id}/acknowledge"), 409, "case_closed")
        response = await client.post(f"/v1/cases/{OPEN.case_id}/close", json={"outcome": "succeeded"})
        is_problem(response, 409, "case_closed")
    assert bench.log == []


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"outcome":"fine"}', b'{"outcome":"failed","more":1}', b'{"outcome":"failed","by":"a\\nb"}'],
)
async def test_bodies_that_make_no_sense(bench: Bench, body: bytes) -> None:
    async with bench.client() as client:
        is_problem(await client.post(f"/v1/cases/{OPEN.case_id}/close", content=body), 422, "bad_body")
        large = await client.post(f"/v1/cases/{OPEN.case_id}/close", content=b" " * (MAX_BODY_BYTES + 1))
        is_problem(large, 413, "too_large")
    assert bench.log == []


@pytest.mark.parametrize("key", ["", "wrong", KEY[:-1]])
async def test_nothing_without_a_key(bench: Bench, key: str) -> None:
    async with bench.client(key) as client:
        for path in ("/v1/alerts", "/v1/cases", f"/v1/cases/{OPEN.case_id}", "/v1/customers/ada/survey-permission"):
            is_problem(await client.get(path), 401, "unauthorized")
        is_problem(await client.post(f"/v1/cases/{OPEN.case_id}/acknowledge"), 401, "unauthorized")
        assert (await client.get("/health/live")).status_code == 200
    assert bench.log == []
    assert bench.asked == []


async def test_any_key_will_do_and_none_where_none_is_set(bench: Bench) -> None:
    async with bench.client("another-key-of-the-desk") as client:
        assert (await client.get("/v1/cases")).status_code == 200
    async with bench.client("") as client:
        assert (await client.get("/v1/cases", headers={"x-api-key": KEY})).status_code == 200
    async with bench.client("", api_keys=()) as client:
        assert (await client.get("/v1/cases")).status_code == 200


async def test_permission(bench: Bench) -> None:
    async with bench.client() as client:
        path = "/v1/customers/ada%2Flovelace/survey-permission"
        free = {"customer_id": "ada/lovelace", "allowed": True, "reasons": [], "ask_again_at": None}
        assert (await client.get(path)).json() == free
        bench.facts = SurveyFacts(0, 0, 0, NOW_US - 13 * DAY_US)
        answer = (await client.get(path)).json()
        assert (answer["allowed"], answer["reasons"]) == (False, ["asked_lately"])
        assert answer["ask_again_at"] == "2026-03-03T09:20:45Z"


@pytest.mark.parametrize("error", [DownError("down"), RuntimeError("broken")])
async def test_what_cannot_be_told_is_no_permission(bench: Bench, error: Exception) -> None:
    bench.error = error
    async with bench.client() as client:
        response = await client.get("/v1/customers/ada/survey-permission")
        is_problem(response, 503, "unavailable")
        assert response.headers["retry-after"]


async def test_what_is_down_is_said(bench: Bench) -> None:
    async with bench.client() as client:
        assert (await client.get("/health/ready")).json() == {"status": "ready"}
        bench.error = DownError("down")
        for path in ("/health/ready", "/v1/cases", "/v1/alerts"):
            is_problem(await client.get(path), 503, "unavailable")
        bench.error = RuntimeError("secret inside")
        response = await client.get("/v1/cases")
        is_problem(response, 500, "internal")
        assert "secret" not in response.text
        bench.error = None
        is_problem(await client.get("/nowhere"), 404, "not_found")
        is_problem(await client.delete("/v1/cases"), 405, "method_not_allowed")


async def test_the_log_is_down(bench: Bench) -> None:
    def append(*_: Any) -> None:
        raise DownError("down")

    async with bench.client(append=append) as client:
        response = await client.post(f"/v1/cases/{OPEN.case_id}/acknowledge")
        is_problem(response, 503, "unavailable")


async def test_opening_a_link_changes_nothing_and_the_button_does(bench: Bench) -> None:
    bench.case_ = replace(OPEN, summary="<script>alert(1)</script>")
    async with bench.client("") as client:
        for _ in range(3):
            page = await client.get(PAGE)
        assert page.status_code == 200
        assert (await client.head(PAGE)).status_code == 200
        assert bench.log == []
        assert "<script" not in page.text
        assert "&lt;script&gt;" in page.text
        policy = page.headers["content-security-policy"]
        assert "script" not in policy
        assert policy.startswith("default-src 'none'")
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"
        [action] = re.findall(r'action="([^"]+)"', page.text)
        pressed = await client.post(action.replace("&amp;", "&"), data={"by": "  Kim  <b>Lee</b> "})
        assert pressed.status_code == 200
        assert "<b>" not in pressed.text
    [(customer, value)] = bench.log
    step = decode([value], b"markmark").frame.to_dicts()[0]
    assert customer == "ada"
    assert dict(step["attributes"])["by"] == "Kim <b>Lee</b>"


async def test_the_style_is_the_one_that_the_policy_lets_in(bench: Bench) -> None:
    async with bench.client("") as client:
        page = await client.get(PAGE)
    [style] = re.findall("<style>(.*)</style>", page.text)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nonsense",
        TOKEN[:-1],
        LINKS.sign(OPEN.case_id, ACKNOWLEDGE, NOW_US // 1_000_000),
        LINKS.sign("b" * 32, ACKNOWLEDGE, NOW_US // 1_000_000 + 60),
        TokenKeys((b"x" * 32,)).sign(OPEN.case_id, ACKNOWLEDGE, NOW_US // 1_000_000 + 60),
    ],
)
async def test_other_links_open_nothing(bench: Bench, token: str) -> None:
    async with bench.client("") as client:
        for ask in (client.get, client.post):
            response = await ask(f"/cases/{OPEN.case_id}", params={"token": token})
            assert response.status_code == 403
            assert "ada" not in response.text
            assert response.headers["referrer-policy"] == "no-referrer"
    assert bench.log == []


async def test_no_links_without_a_key_for_them(bench: Bench) -> None:
    async with bench.client("", token_keys=None) as client:
        assert (await client.get(PAGE)).status_code == 404


async def test_a_closed_case_has_no_button(bench: Bench) -> None:
    bench.case_ = CLOSED
    async with bench.client("") as client:
        page = await client.get(PAGE)
        assert "closed by lee" in page.text
        assert "<form" not in page.text
        assert (await client.post(PAGE)).status_code == 409


async def test_the_description_has_every_route(bench: Bench) -> None:
    async with bench.client() as client:
        document = (await client.get("/openapi.json")).json()
    app = alerting_app(CasePorts(bench, bench.append, (), lambda: 0))
    routes: dict[str, set[str]] = {}
    for route in app.routes:
        path = route.path.replace(":path", "")  # type: ignore[attr-defined]
        routes.setdefault(path, set()).update(m.lower() for m in route.methods if m != "HEAD")  # type: ignore[attr-defined]
    routes.pop("/openapi.json")
    told = {path: set(item) - {"parameters"} for path, item in document["paths"].items()}
    assert told == routes
    shapes = document["components"]["schemas"]
    used = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert used <= set(shapes)
    assert set(_with_times(asdict(OPEN))) | {"steps"} == set(shapes["Case"]["properties"])
