"""The rules file read: all that is wrong with it at once, each with its line, column, path and remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from services.alerting.delivery import receivers as known
from services.alerting.rules.model import Budget, Focus, Group, QuietHours, Rule, RuleSet, SurveyGuard
from services.alerting.rules.samples import samples
from services.alerting.rules.yaml_text import MOST_BYTES, Loader, YamlError, place_in

LISTS: Final = ("receivers", "rules", "focus")
_RECEIVERS: Final[dict[str, type[known._Receiver]]] = {
    "webhook": known.Webhook,
    "alertmanager": known.Alertmanager,
    "slack": known.Slack,
    "teams": known.Teams,
    "pagerduty": known.PagerDuty,
    "email": known.Email,
    "file": known.File,
    "apprise": known.Apprise,
}
_SECTIONS: Final[dict[str, Any]] = {
    "rules": Rule,
    "focus": Focus,
    "budget": Budget,
    "group": Group,
    "quiet_hours": QuietHours,
    "survey_guard": SurveyGuard,
}


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something about the rules file, ready to be shown. Lines and columns count from 1."""

    line: int
    column: int
    path: str
    message: str
    name: str = ""
    """Of the file."""

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{self.name}:{self.line}:{self.column}: {where}{self.message}"


class RulesError(ValueError):
    """A rules file that cannot be used. ``findings`` has at least one, in the order of the file."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = findings


@dataclass(frozen=True, slots=True)
class Read:
    """A rules file that can be used."""

    rules: RuleSet
    warnings: list[Finding]


def read_rules(content: bytes | str, name: str = "rules") -> Read:
    """The rules that ``content`` (YAML, UTF-8) says; ``name`` stands in the findings. Raises `RulesError`."""
    try:
        root, text = _composed(content)
    except YamlError as error:
        raise RulesError([Finding(error.line, error.column, "", error.message, name)]) from error
    document = _Document(root, text, name)
    findings = set(document.crossed())
    rules = None
    try:
        rules = RuleSet.model_validate(document.value)
    except ValidationError as error:
        for each in error.errors(include_url=False):
            findings.update(document.told(each))
    if rules is not None:
        findings.update(document.unreachable(rules))
    if findings or rules is None:
        raise RulesError(sorted(findings))
    return Read(rules, sorted(document.doubts(rules)))


def _composed(content: bytes | str) -> tuple[Node, str]:
    size = len(content if isinstance(content, bytes) else content.encode())
    if size > MOST_BYTES:
        raise YamlError(
            1, 1, f"the file has {size:,} bytes, more than {MOST_BYTES:,}; split it or remove what is unused"
        )
    if isinstance(content, str):
        text = content
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise YamlError(line, 1, "is not UTF-8; save the file as UTF-8") from error
    loader = Loader(text)
    return loader.root(), text


class _Document:
    """The nodes of a file, their plain value, and where each stands."""

    def __init__(self, root: Node, text: str, name: str) -> None:
        self.root, self.text, self.name = root, text, name
        self.duplicates: list[Finding] = []
        self.value = self._plain(root, ())

    def finding(self, node: Node, path: tuple[str | int, ...], message: str, offset: int | None = None) -> Finding:
        mark = node.start_mark
        line, column = mark.line, mark.column
        if offset is not None and isinstance(node, ScalarNode):
            line, column = place_in(self.text, node, offset)
        return Finding(line + 1, column + 1, _path(path), message, self.name)

    def _plain(self, node: Node, path: tuple[str | int, ...]) -> Any:
        if isinstance(node, MappingNode):
            plain: dict[str, Any] = {}
            for key, value in node.value:
                word = str(key.value) if isinstance(key, ScalarNode) else ""
                if not isinstance(key, ScalarNode):
                    self.duplicates.append(self.finding(key, path, "a key must be a word"))
                elif word in plain:
                    self.duplicates.append(
                        self.finding(key, (*path, word), "stands here a second time; remove one of them")
                    )
                plain[word] = self._plain(value, (*path, word))
            return plain
        if isinstance(node, SequenceNode):
            return tuple(self._plain(each, (*path, index)) for index, each in enumerate(node.value))
        return _scalar(node)

    def crossed(self) -> Iterator[Finding]:
        """What is wrong between parts, whatever else is wrong: names used twice, receivers that are not there."""
        yield from self.duplicates
        if not isinstance(self.value, dict):
            return
        names: dict[tuple[str, str], str] = {}
        there = {str(each.get("name")) for each in self._each("receivers")}
        for section in LISTS:
            for index, each in enumerate(self._each(section)):
                own = each.get("name")
                space = "receivers" if section == "receivers" else "rules"
                path = (section, index, "name")
                if isinstance(own, str) and (space, own) in names:
                    yield self.finding(
                        self._node(path),
                        path,
                        f"the name {own} is taken by {names[space, own]}; names are unique, choose another",
                    )
                elif isinstance(own, str):
                    names[space, own] = _path((section, index))
                wanted = each.get("receivers", ())
                for place, receiver in enumerate(wanted if isinstance(wanted, tuple) else ()):
                    if section != "receivers" and isinstance(receiver, str) and receiver not in there:
                        at = (section, index, "receivers", place)
                        remedy = _near(receiver, sorted(there)) or "add it under receivers"
                        yield self.finding(self._node(at), at, f"there is no receiver {receiver}; {remedy}")

    def _each(self, section: str) -> list[Mapping[str, Any]]:
        found = self.value.get(section, ()) if isinstance(self.value, dict) else ()
        return [each if isinstance(each, dict) else {} for each in found] if isinstance(found, tuple) else []

    def _node(self, path: tuple[str | int, ...], *, key: bool = False) -> Node:
        """The node at a path, or the nearest above it. ``key``: the key itself, where the last step is one."""
        node = self.root
        for place, step in enumerate(path):
            if isinstance(node, MappingNode):
                pair = next((pair for pair in node.value if getattr(pair[0], "value", None) == step), None)
                if pair is None:
                    continue  # a step of pydantic's own: the type of a receiver
                node = pair[0] if key and place == len(path) - 1 else pair[1]
            elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
        return node

    def told(self, error: ErrorDetails) -> Iterator[Finding]:
        """A finding of pydantic in our words, at its place."""
        path = self._own_path(error["loc"])
        kind, given = error["type"], error.get("ctx", {})
        if kind == "condition" and "places" in given:
            node = self._node(path)
            for offset, message in given["places"]:
                yield self.finding(node, path, message, offset)
        elif kind == "extra_forbidden":
            remedy = self._key_remedy(path)
            yield self.finding(self._node(path, key=True), path, f"there is no such key; {remedy}")
        elif kind == "missing":
            yield self.finding(self._node(path[:-1]), path, f"is missing; {_what(str(path[-1]))}")
        elif kind in ("union_tag_invalid", "union_tag_not_found"):
            node = self._node((*path, "type"))
            kinds = ", ".join(_RECEIVERS)
            wrong = given.get("tag")
            near = _near(str(wrong), list(_RECEIVERS)) if wrong else ""
            yield self.finding(node, (*path, "type"), f"is no type of receiver; {near or f'there are {kinds}'}")
        elif not (kind == "too_short" and error["input"]):  # its members are wrong, which is told of each
            yield self.finding(self._node(path), path, _words(error))

    def _own_path(self, loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
        """A path as the file has it: pydantic puts the type of a receiver after its number."""
        if len(loc) > 2 and loc[0] == "receivers" and loc[2] in _RECEIVERS:
            return (*loc[:2], *loc[3:])
        return tuple(step for step in loc if step != "[key]")

    def _key_remedy(self, path: tuple[str | int, ...]) -> str:
        sections = [step for step in path[:-1] if isinstance(step, str)]
        model: Any = RuleSet if not sections else _SECTIONS.get(sections[-1])
        if sections[-1:] == ["receivers"]:
            type_ = self._each("receivers")[int(path[1])].get("type")
            model = _RECEIVERS.get(str(type_))
        if model is None:
            return "remove it"
        keys = [field.alias or name for name, field in model.model_fields.items()]
        return _near(str(path[-1]), keys) or f"there are {', '.join(keys)}"

    def unreachable(self, rules: RuleSet) -> Iterator[Finding]:
        """Receivers without an address, with two, or with one that would carry calls in the open."""
        for index, receiver in enumerate(rules.receivers):
            if not isinstance(receiver, known._Http):
                continue
            path: tuple[str | int, ...] = ("receivers", index)
            if not receiver.url and receiver.url_from is None:
                yield self.finding(self._node(path), path, "has no address; give url, or url_from where it is a secret")
            elif receiver.url and receiver.url_from is not None and "url" in receiver.model_fields_set:
                yield self.finding(self._node(path), path, "has url and url_from; remove one of them")
            elif receiver.url and not receiver.url.startswith(
                ("https://", "http://") if receiver.local else "https://"
            ):
                path = (*path, "url")
                remedy = "write an https address; plain http only with local: true"
                yield self.finding(self._node(path), path, f"cannot be called; {remedy}")

    def doubts(self, rules: RuleSet) -> Iterator[Finding]:
        """What can be used and is hardly meant."""
        used = {name for rule in rules.by_name.values() for name in rule.receivers}
        for index, receiver in enumerate(rules.receivers):
            path: tuple[str | int, ...] = ("receivers", index, "name")
            if receiver.name not in used:
                yield self.finding(self._node(path), path, "no rule calls this receiver; remove it or use it")
            if receiver.type in ("slack", "teams") and receiver.url:
                path = ("receivers", index, "url")
                yield self.finding(
                    self._node(path), path, "this address is itself a secret; say with url_from where it stands"
                )
            for header in getattr(receiver, "headers", {}):
                if header.lower() in ("authorization", "cookie", "x-api-key"):
                    path = ("receivers", index, "headers", header)
                    yield self.finding(self._node(path), path, "a secret in the file; the signature proves who calls")
        if not rules.by_name:
            yield self.finding(self.root, (), "no rules and no focus: nobody will be called")
        several: dict[str, Sequence[Rule | Focus]] = {"rules": rules.rules, "focus": rules.focus}
        for section, some in several.items():
            for index, each in enumerate(some):
                for step, message in each_doubt(each):
                    path = (section, index, *step)
                    yield self.finding(self._node(path), path, message)


def each_doubt(rule: Rule | Focus) -> Iterator[tuple[tuple[str, ...], str]]:
    """Contradictions within a rule: keys to the place, and what is doubtful there."""
    if rule.budget.per_hour > rule.budget.per_day:
        yield ("budget", "per_hour"), "more in an hour than in a day; only per_day counts then"
    if len(set(rule.receivers)) < len(rule.receivers):
        yield ("receivers",), "a receiver stands here twice; it is called once"
    if isinstance(rule, Focus):
        if rule.against_us <= rule.window_us:
            yield ("against",), "is not longer than window; the past should be longer than what is held against it"
        return
    conditions = {"when": rule.when} | ({"until": rule.until} if rule.until is not None else {})
    for key, condition in conditions.items():
        for doubt in condition.doubts():
            yield (key,), f"{doubt}; the comparison is always the same"
        if "from_band" in condition.fields:
            yield (
                (key,),
                "from_band differs from band only at the signal at which a customer crosses, never while time passes; "
                "give an `until` without it, or ask for band alone",
            )
    if rule.until is not None and rule.until == rule.when:
        yield ("until",), "says the same as `when`: the rule can never fire; leave it out or say when it is over"
    elif rule.until is not None and can_meet(rule):
        yield (
            ("until",),
            "can hold at the same time as `when`; then it wins and nothing fires. Exclude one from the other",
        )
    if rule.quiet_hours is not None and rule.severity == "critical" and not rule.quiet_hours.critical:
        yield ("quiet_hours",), "has no effect on severity critical; say `critical: true` to hold these back too"


def can_meet(rule: Rule) -> bool:
    """Whether a customer can be thought of for whom `when` and `until` both hold."""
    if rule.until is None:
        return False
    frame = samples(rule.when, rule.until)
    return bool(frame.select((rule.when.holds() & rule.until.holds()).any()).item())


def _path(path: tuple[str | int, ...]) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _near(wrong: str, right: list[str]) -> str:
    near = get_close_matches(wrong, right, n=1)
    return f"did you mean {near[0]}?" if near else ""


_WANTED: Final = {
    "version": "write version: 1",
    "owner": "say who answers for its cases",
    "when": "write a condition, as after WHERE in SQL",
    "receivers": "name at least one receiver",
    "name": "give it a name of a-z, 0-9 and hyphens",
    "type": f"there are {', '.join(_RECEIVERS)}",
}


def _what(key: str) -> str:
    return _WANTED.get(key, "add it")


def _words(error: ErrorDetails) -> str:
    kind, ctx, given = error["type"], error.get("ctx", {}), error["input"]
    # Whatever stands at a receiver may be a secret that was put there by mistake: it is not repeated.
    hidden = isinstance(given, dict | tuple) or (error["loc"][:1] == ("receivers",) and error["loc"][-1] != "name")
    shown = "" if hidden else f" (it is {given[:60]!r})" if isinstance(given, str) else f" (it is {given})"
    match kind:
        case "string_pattern_mismatch" if str(ctx.get("pattern")) == known.NAME:
            return f"is no name{shown}; use a-z, 0-9 and hyphens"
        case "string_pattern_mismatch" if "file:" in str(ctx.get("pattern")):
            return "must say where the secret stands, not what it is; write file:/run/secrets/NAME or env:NAME"
        case "string_pattern_mismatch":
            return f"cannot be used{shown}; write it to fit {ctx.get('pattern')}"
        case "duration" | "time_of_day" | "zone" | "condition":
            return f"{error['msg']}{shown}"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"must have keys of its own{shown}; write `key: value` below it"
        case "tuple_type" | "list_type":
            return f"must be a list{shown}; write it as [a, b]"
        case "literal_error":
            return f"must be {ctx.get('expected')}{shown}"
        case _:
            message = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            return f"must be {message}{shown}" if error["msg"].startswith("Input should") else f"{message}{shown}"


def _scalar(node: Node) -> Any:
    value = str(node.value)
    match node.tag:
        case "tag:yaml.org,2002:null":
            return None
        case "tag:yaml.org,2002:bool":
            return value.lower() == "true"
        case "tag:yaml.org,2002:int":
            return int(value)
        case "tag:yaml.org,2002:float":
            return float(value)
        case _:
            return value
