"""The rules file read: every error at its place with its remedy, what is odd refused, versions by content."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest

from services.alerting.rules.read import Read, RulesError, read_rules
from services.alerting.rules.yaml_text import MOST_BYTES

EXAMPLE = Path(__file__).parents[3] / "docs" / "alerting" / "rules.example.yml"
HEAD = """\
version: 1
receivers:
  - {name: desk, type: webhook, url: "https://desk.example.com/x", signing_secrets: ["file:/run/secrets/desk"]}
rules:
  - name: leaving
    owner: retention
    receivers: [desk]
"""
"""Seven lines; what a test adds belongs to the rule, from line 8 on."""


def rules_of(more: str = "when: band = 'high'") -> str:
    return HEAD + indent(dedent(more).strip("\n"), "    ") + "\n"


def errors(text: str | bytes) -> list[str]:
    with pytest.raises(RulesError) as caught:
        read_rules(text, "r.yml")
    assert str(caught.value).splitlines() == [str(finding) for finding in caught.value.findings]
    return [str(finding) for finding in caught.value.findings]


def warnings(text: str) -> list[str]:
    return [str(finding) for finding in read_rules(text, "r.yml").warnings]


def test_the_example_is_read_without_a_doubt() -> None:
    found = read_rules(EXAMPLE.read_bytes())
    assert found.warnings == []
    assert [rule.name for rule in found.rules.rules][:2] == ["leaving-and-valuable", "complaint-waits"]
    first = found.rules.rules[0]
    assert (first.cooldown_us, first.group.wait_us, first.answer_within_us) == (604_800 * 10**6, 10**6, 86_400 * 10**6)
    assert first.quiet_hours is not None
    assert (first.quiet_hours.from_minute, first.quiet_hours.to_minute) == (1200, 480)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("when: bnd = 'high'", "8:11: rules[0].when: there is no field `bnd`; did you mean band?"),
        ("when: band = 'high' AND scroe < 5", "8:29: rules[0].when: there is no field `scroe`; did you mean score?"),
        ("when: 'band = ''high'' AND scroe < 5'", "8:32: rules[0].when: there is no field `scroe`"),
        ("when: \"band = 'high' AND scroe < 5\"", "8:30: rules[0].when: there is no field `scroe`"),
        ("when: >\n  band = 'high'\n\n  AND scroe < 5", "11:11: rules[0].when: there is no field `scroe`"),
        ("when: |\n  band = 'high'\n    AND scroe < 5", "10:13: rules[0].when: there is no field `scroe`"),
        ("when: band = 'high'\n  AND scroe < 5", "9:11: rules[0].when: there is no field `scroe`"),
        ("when: risk >", "8:16: rules[0].when: cannot be read near `>`"),
        ("when: 5", "8:11: rules[0].when: is no condition; write text, as after WHERE in SQL (it is 5)"),
        ("when: risk > 0\nuntill: risk < 0", "9:5: rules[0].untill: there is no such key; did you mean until?"),
        ("when: risk > 0\nfor: 3 days", "9:10: rules[0].for: is no duration; write one as 90s, 15m"),
        ("when: risk > 0\nfor: 4000d", "9:10: rules[0].for: is longer than 3650d"),
        ("when: risk > 0\nfor: 5", "9:10: rules[0].for: is no duration"),
        ("when: risk > 0\ngroup: {wait: 2h}", "9:19: rules[0].group.wait: must be less than or equal to"),
        (
            "when: risk > 0\nbudget: {per_hour: lots}",
            "9:24: rules[0].budget.per_hour: must be a valid integer (it is 'lots')",
        ),
        ("when: risk > 0\nbudget: 5", "9:13: rules[0].budget: must have keys of its own (it is 5)"),
        (
            "when: risk > 0\nbudget: {perhour: 5}",
            "9:14: rules[0].budget.perhour: there is no such key; did you mean per_hour?",
        ),
        (
            "when: risk > 0\nseverity: bad",
            "9:15: rules[0].severity: must be 'critical', 'error', 'warning' or 'info' (it is 'bad')",
        ),
        ("when: risk > 0\nhold_out: 0.9", "9:15: rules[0].hold_out: must be less than or equal to 0.5 (it is 0.9)"),
        (
            "when: risk > 0\ncost_of_contact: .inf",
            "9:22: rules[0].cost_of_contact: must be a valid number (it is '.inf')",
        ),
        ("when: risk > 0\nwhen: risk > 1", "9:5: rules[0].when: stands here a second time"),
        (
            'when: risk > 0\nquiet_hours: {from: 8:00, to: "20:00"}',
            "9:25: rules[0].quiet_hours.from: is no time of day",
        ),
        ("when: risk > 0\nquiet_hours: {from: 08:00, to: 08:00}", "rules[0].quiet_hours: from and to are the same"),
        (
            "when: risk > 0\nquiet_hours: {from: 20:00, to: 08:00, zone: Europe/Berln}",
            "9:49: rules[0].quiet_hours.zone: is no time zone",
        ),
        ("when: risk > 0\n? [a]\n: b", "9:7: rules[0]: a key must be a word"),
        ("owner: x", "8:5: rules[0].owner: stands here a second time"),
        ("description: x", "5:5: rules[0].when: is missing; write a condition"),
    ],
)
def test_says_where_it_is_wrong_and_what_to_do(more: str, said: str) -> None:
    found = errors(rules_of(more))
    assert any(each.startswith("r.yml:") and said in each for each in found), found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "r.yml:1:1: the file is empty; begin with version: 1"),
        ("[", "r.yml:1:2: "),
        ("version: 1\n  rules: [", "r.yml:2:8: "),
        ("version: 1\n\trules: []", "r.yml:2:1: "),
        ("just words", "r.yml:1:1: must have keys of its own"),
        ("rules: []", "r.yml:1:1: version: is missing; write version: 1"),
        ("version: 2", "r.yml:1:10: version: must be 1 (it is 2)"),
        ("version: 1\nruls: []", "r.yml:2:1: ruls: there is no such key; did you mean rules?"),
        ("version: 1\nrules: {}", "r.yml:2:8: rules: must be a list"),
        ("version: 1\nrules: [5]", "r.yml:2:9: rules[0]: must have keys of its own (it is 5)"),
        ("version: 1\n---\nversion: 1", "r.yml:2:1: "),
        ("version: 1\nrules: &all []", "r.yml:2:8: anchors (&) and aliases (*) are not allowed"),
        ("version: 1\nrules: *all", "r.yml:2:8: anchors (&) and aliases (*) are not allowed"),
        ("version: !!python/name:os.system 1", "r.yml:1:10: the tag tag:yaml.org,2002:python/name:os.system is not"),
        ("version: 1\n<<: {rules: []}", "r.yml:2:1: <<: there is no such key"),
        ("a: " + "[" * 5_000, "is nested deeper than 12 levels"),
        ("version: 1 \x00", "r.yml:1:1: has a character that YAML does not allow"),
        (b"version: 1\nx: \xff", "r.yml:2:1: is not UTF-8"),
        ("#" * (MOST_BYTES + 1), "r.yml:1:1: the file has 1,048,577 bytes"),
        (
            "version: 1\nreceivers: [{name: x, type: webook}]",
            "2:29: receivers[0].type: is no type of receiver; did you",
        ),
        ("version: 1\nreceivers: [{name: x}]", "2:13: receivers[0].type: is no type of receiver; there are webhook"),
        (
            'version: 1\nreceivers: [{name: x, type: file, path: "-", pth: x}]',
            "2:46: receivers[0].pth: there is no such key; did you mean path?",
        ),
        (
            "version: 1\nreceivers: [{name: x, type: slack}]",
            "2:13: receivers[0]: give url, or url_from where the address is itself a secret",
        ),
        (
            "version: 1\nreceivers: [{name: x, type: slack, url: http://x}]",
            "2:13: receivers[0]: url: plain http is for receivers with `local: true`",
        ),
    ],
)
def test_says_what_is_wrong_with_the_file(text: str | bytes, said: str) -> None:
    found = errors(text)
    assert any(said in each for each in found), found


def test_a_secret_in_the_wrong_place_is_not_repeated() -> None:
    (found,) = errors(
        "version: 1\nreceivers:\n  - {name: d, type: webhook, url: https://d, signing_secrets: [whsec_c2VjcmV0]}"
    )
    assert found == (
        "r.yml:3:64: receivers[0].signing_secrets[0]: must say where the secret stands, not what it is; "
        "write file:/run/secrets/NAME or env:NAME"
    )


def test_tells_everything_at_once_in_the_order_of_the_file() -> None:
    found = errors(
        HEAD.replace("[desk]", "[dsk]")
        + "    when: bnd = 'x' AND scroe > 1\n  - name: leaving\n    owner: o\n    receivers: [desk]\n    for: x\n"
    )
    assert [each.split(":", 3)[1] for each in found] == ["7", "8", "8", "9", "9", "12"]
    assert "there is no receiver dsk; did you mean desk?" in found[0]
    assert any("the name leaving is taken by rules[0]" in each for each in found)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("when: band = 'high'\nuntil: band = 'high'", "9:12: rules[0].until: says the same as `when`"),
        ("when: band = 'high'\nuntil: score > 50", "9:12: rules[0].until: can hold at the same time as `when`"),
        ("when: risk > 0.6\nuntil: risk < 0.7", "9:12: rules[0].until: can hold at the same time"),
        ("when: risk > 70", "8:11: rules[0].when: `risk > 70`: risk is between 0 and 1"),
        ("when: from_band = 'low' AND band = 'high'", "8:11: rules[0].when: from_band differs from band only at"),
        ("when: risk > 0.5\nbudget: {per_hour: 50, per_day: 5}", "9:24: rules[0].budget.per_hour: more in an hour"),
        (
            "when: risk > 0.5\nseverity: critical\nquiet_hours: {from: 20:00, to: 08:00}",
            "10:18: rules[0].quiet_hours: has no effect on severity critical",
        ),
    ],
)
def test_warns_of_what_is_hardly_meant(more: str, said: str) -> None:
    assert any(said in each for each in warnings(rules_of(more)))


@pytest.mark.parametrize(
    "more",
    ["when: band = 'high'\nuntil: band = 'low'", "when: risk >= 0.6\nuntil: risk < 0.4", "when: risk > 0.5"],
)
def test_does_not_warn_of_what_is_well_said(more: str) -> None:
    assert warnings(rules_of(more)) == []


def test_warns_of_receivers_nobody_uses_and_of_secrets_in_the_file() -> None:
    found = warnings(
        rules_of().replace(
            "rules:\n", '  - {name: chat, type: slack, url: "https://hooks.example.com/T0/secret"}\nrules:\n', 1
        )
    )
    assert ["no rule calls this receiver" in found[0], "this address is itself a secret" in found[1]] == [True, True]
    assert warnings("version: 1")[0].endswith("no rules and no focus: nobody will be called")


def test_words_are_texts() -> None:
    found = read_rules(rules_of("when: band = 'high'\nowner_: x").replace("owner_: x", "description: no"))
    assert found.rules.rules[0].description == "no"


def test_the_version_follows_what_is_said_and_not_how() -> None:
    def version(text: str) -> str:
        found: Read = read_rules(text)
        return found.rules.rules_version

    plain = version(rules_of())
    assert plain == version("# A remark.\n" + rules_of("when:   band='high'\nfor: 0s"))
    assert plain == version(rules_of("when: band = 'high'\ncooldown: 168h"))
    assert plain != version(rules_of("when: band = 'low'"))
    assert plain != version(rules_of("when: band = 'high'\nhold_out: 0.1"))


def test_a_definition_holds_no_address_and_no_secret() -> None:
    definition = read_rules(rules_of()).rules.rules[0].definition()
    assert '"receivers": ["desk"]' in definition
    assert "secret" not in definition
    assert "example.com" not in definition
