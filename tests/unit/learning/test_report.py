"""The report: sound HTML whatever customers are called, pictures that are, and plain words for what is not there."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from PIL import Image

from services.learning.contrast import Effect
from services.learning.drift import Drift, drift
from services.learning.errors import BadHistory
from services.learning.evidence import Judged, Verdict, nothing
from services.learning.measures import Interval, Quality
from services.learning.model import FEATURES, BaseRates, LearntModel, Span
from services.learning.moments import FEELINGS, OUTCOMES, Moment, Moments
from services.learning.report import Example, HeldOut, Report, ReportContent, render, write_report
from services.learning.report.pictures import gains
from services.learning.report.style import label, signed

DAY_US = 86_400_000_000
EVIL = "<script>alert('x')</script>&\"'$5 and $6\n\x07客户"
SOME = Quality(n=900, left=0.3, auc=0.71, brier=0.19, ece=0.02, log_loss=0.55)
VOID = {"br", "img", "meta", "hr"}


def _verdict(layer: str, mean: float, kept: bool) -> Verdict:
    gain = Interval(mean=mean, low=mean - 0.004, high=mean + 0.004)
    return Verdict(layer=layer, kept=kept, strength=100.0, gain=gain, below=SOME, measured=SOME)


def _model(*verdicts: Verdict, by: str = "time", version: str = "m-1", notes: tuple[str, ...] = ()) -> LearntModel:
    kept = tuple(v.layer for v in verdicts if v.kept)
    return LearntModel(
        version=version,
        horizon_days=30,
        kinds=("purchase", "renewal"),
        lookback_days=365,
        base=BaseRates(variant="mbg", r=0.5, alpha=20.0, a=0.6, b=2.5),
        weights=nothing(len(FEATURES), -0.4),
        no_activity_log_odds=-0.1,
        judged=Judged(kept=kept, strength=100.0, by=by, verdicts=verdicts),
        base_quality=(("bg", SOME), ("mbg", SOME)),
        span=Span(
            first_day=17_000,
            as_of_us=17_500 * DAY_US,
            snapshot_days=(17_470, 17_460),
            customers=1234,
            active_days=9876,
            rows=2400,
        ),
        notes=notes,
    )


def _moments(touchpoint: str = "support", found: bool = True) -> Moments:
    def one(outcome: str, feeling: str, place: str | None, sure: bool) -> Moment:
        size = 8.0 if outcome == "spent" else 0.12
        effect = Effect(
            customers=120,
            others=900,
            rows=150,
            observed=0.4,
            expected=0.28,
            difference=Interval(mean=size, low=size / 2, high=size * 1.5),
            ratio=1.43,
            p=0.0001,
        )
        return Moment(
            touchpoint=place,
            journey="claim" if sure else None,
            feeling=feeling,
            outcome=outcome,
            effect=effect,
            q=0.0002 if sure else 0.4,
            found=sure,
            among_touched=effect if feeling == "badly" else None,
        )

    moments = [
        one(outcome, feeling, place, found and feeling == "badly" and place is not None)
        for outcome in OUTCOMES
        for feeling in FEELINGS
        for place in (touchpoint, None)
    ]
    return Moments(
        horizon_days=30,
        window_days=30,
        kinds=("purchase",),
        dates=(17_440, 17_470),
        customers=1000,
        rows=2000,
        felt_customers=300,
        tried=len(moments),
        too_few=3,
        moments=tuple(moments),
        notes=("one date was left out",),
    )


def _held_out(n: int = 400) -> HeldOut:
    random = np.random.default_rng(1)
    chance = random.beta(1.0, 3.0, n)
    left = (random.random(n) < chance).astype(np.float64)
    return HeldOut("Judged on other days.", left, (("base", np.full(n, 0.25)), ("+ rhythm", chance), ("model", chance)))


def _drift(shift: int = 0) -> Drift:
    chance = np.full(600, 0.4)
    risks = pl.DataFrame({"customer_id": [str(i) for i in range(600)], "risk": chance})
    came = pl.Series([str(i) for i in range(360 - shift)])
    return drift(risks, came, version="m-0", judged_at_us=0, horizon_days=30, as_of_us=40 * DAY_US)


def _full(text: str = "support") -> ReportContent:
    verdicts = (_verdict("rhythm", 0.01, True), _verdict("contact", 0.0, False), _verdict("experience", 0.006, True))
    reasons = tuple((f"{text} {i}", (-1.0) ** i / (i + 1)) for i in range(14))
    return ReportContent(
        model=_model(*verdicts, version=text, notes=(text,)),
        made_at_us=17_501 * DAY_US,
        held_out=_held_out(),
        moments=_moments(text),
        drift=_drift(),
        examples=(Example(text, -1.0, reasons), Example("average", 9.0, ())),
        currency="EUR",
    )


class _Page(HTMLParser):
    """Checks that tags nest, and keeps what matters."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data

    def images(self) -> list[bytes]:
        sources = [attributes["src"] or "" for tag, attributes in self.tags if tag == "img"]
        assert all(source.startswith("data:image/png;base64,") for source in sources)
        return [base64.b64decode(source.partition(",")[2], validate=True) for source in sources]


@pytest.fixture(scope="module")
def full() -> Report:
    return render(_full())


def test_the_page_is_whole_and_every_picture_is_one(full: Report) -> None:
    page = _Page(full.html)
    assert set(full.pictures) == {"layers", "reliability", "lift", "moments", "drift", "customer-1", "customer-2"}
    files = {picture.png for picture in full.pictures.values()}
    assert set(page.images()) == files
    for content in files:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            assert image.format == "PNG"
            assert 700 <= image.width <= 1500
            assert 200 <= image.height <= 1500
            assert round(image.info["dpi"][0]) == 150
            assert len(np.unique(np.asarray(image.convert("L")))) > 20  # something is drawn
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")


def test_what_is_written_is_what_is_rendered(tmp_path: Path) -> None:
    settings = dict(mpl.rcParams)
    content = ReportContent(_model(_verdict("rhythm", 0.01, True)), 0, drift=_drift())
    path = write_report(tmp_path / "new" / "folder", content)
    report = render(content)
    assert path.read_text("utf-8") == report.html  # the same content gives the same bytes
    assert {file.name for file in path.parent.iterdir()} == {"report.html", "layers.png", "drift.png"}
    for name, picture in report.pictures.items():
        assert (path.parent / f"{name}.png").read_bytes() == picture.png
    assert dict(mpl.rcParams) == settings


def test_nothing_is_fetched_and_nothing_runs(full: Report) -> None:
    html = full.html
    page = _Page(html)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "a", "object"}
    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in html


def test_what_customers_are_called_is_text() -> None:
    content = _full(EVIL)
    page = _Page(render(replace(content, currency=EVIL, held_out=None, drift=None, examples=content.examples[:1])).html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert('x')</script>&\"'$5 and $6") > 5
    assert not any(
        "alert" in (value or "") for tag, attributes in page.tags for key, value in attributes.items() if key != "alt"
    )


def test_a_full_report_says_what_was_found(full: Report) -> None:
    text = _Page(full.html).text
    assert "learnt from 1,234 customers between 2016-07-18 and 2017-11-30" in text
    assert "Beyond the base model these made predictions better: own rhythm and spend, what was felt." in text
    assert "Left out: it added nothing that could be told from chance (0.0000 [−0.0040 to +0.0040]" in text
    assert "of 120 customers who felt support in journey claim badly, 40.0% did not come back" in text
    assert "These are associations." in text
    assert "Calling the 20% of customers most at risk reaches" in text
    assert "the model holds" in text
    assert "one date was left out" in text
    assert "Experience added nothing" not in text
    assert "Spend in EUR a horizon." in text


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            _model(_verdict("rhythm", 0.01, True), _verdict("experience", 0.001, False)),
            "Experience added nothing to the prediction that could be told from chance",
        ),
        (
            _model(_verdict("rhythm", 0.01, True)),
            "Nothing was felt in this history, or no feelings were given to the fit",
        ),
        (_model(_verdict("rhythm", 0.01, True)), "There are no events but those that count as coming back"),
        (_model(_verdict("rhythm", -0.01, False)), "Nothing made predictions better than the base model"),
        (_model(by="nothing"), "Not tried: too little history to judge any evidence by."),
        (_model(_verdict("rhythm", 0.01, True), by="customers"), "too short to judge by time"),
        (_model(_verdict("weather", 0.01, True)), "weather"),
    ],
)
def test_what_a_layer_did_not_add_is_said(model: LearntModel, said: str) -> None:
    assert said in _Page(render(ReportContent(model, made_at_us=0)).html).text


def test_what_was_not_looked_at_is_said() -> None:
    report = render(ReportContent(_model(by="nothing"), made_at_us=0))
    text = _Page(report.html).text
    assert report.pictures == {}
    for said in (
        "No held-out customers were given",
        "Not looked at for this report.",
        "No customer was chosen",
        "drift is not known yet",
    ):
        assert said in text


def test_moments_that_found_nothing_say_so() -> None:
    none = _moments(found=False)
    text = _Page(render(ReportContent(_model(by="nothing"), 0, moments=none)).html).text
    assert "No feeling at any touchpoint goes with leaving or staying beyond the base rate" in text
    assert text.count("Nothing was found that could be told from chance.") == len(OUTCOMES)
    empty = none.model_copy(update={"moments": (), "tried": 0, "notes": ("nothing was felt",)})
    text = _Page(render(ReportContent(_model(by="nothing"), 0, moments=empty)).html).text
    assert "Note: nothing was felt." in text


def test_drift_is_an_alarm() -> None:
    page = _Page(render(ReportContent(_model(by="nothing"), 0, drift=_drift(150))).html)
    assert "the model has drifted" in page.text
    assert any("alarm" in (attributes.get("class") or "") for _, attributes in page.tags)


def test_held_out_customers_of_one_outcome_have_no_lift() -> None:
    one = HeldOut("All left.", np.ones(5), (("model", np.full(5, 0.5)),))
    report = render(ReportContent(_model(by="nothing"), 0, held_out=one))
    assert set(report.pictures) == {"reliability"}
    assert "Only one outcome was seen" in report.html


def test_held_out_results_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadHistory, match="at least one customer"):
        HeldOut("", np.zeros(0), (("model", np.zeros(0)),))
    with pytest.raises(BadHistory, match="2 chances for 3"):
        HeldOut("", np.zeros(3), (("model", np.zeros(2)),))
    with pytest.raises(BadHistory, match="within 0 and 1"):
        HeldOut("", np.zeros(2), (("model", np.array([0.1, np.nan])),))
    with pytest.raises(BadHistory, match="1 for leaving or 0"):
        HeldOut("", np.full(2, 0.5), (("model", np.zeros(2)),))


def test_gains_reach_everybody_and_take_ties_together() -> None:
    called, reached = gains(np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.5, 0.5, 0.1]))
    assert called.tolist() == [0.0, 0.25, 0.75, 1.0]
    assert reached.tolist() == [0.0, 0.5, 1.0, 1.0]


def test_reasons_add_up() -> None:
    example = Example("c", -1.0, (("a", 0.5), ("b", 0.0), ("c", -2.0)))
    assert example.log_odds == -2.5
    assert example.risk == pytest.approx(0.0759, abs=1e-4)
    assert example.ordered == (("c", -2.0), ("a", 0.5))


def test_labels_fit_into_pictures() -> None:
    assert label("$5 \x07 客") == r"\$5 □ □"
    assert max(len(line) for line in label("word " * 50).split("\n")) <= 38
    assert label("x" * 500).count("\n") == 1
    assert [signed(value, 1) for value in (1.25, -0.51, -0.01, 0.0)] == ["+1.2", "−0.5", "0.0", "0.0"]
