"""The little that must be known of a statement's text before the engine gets it.

A tokenizer that knows quotes and comments; nothing here decides about rights on its own (see access).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+|--[^\n]*|\#[!\ ][^\n]*|/\*.*?(?:\*/|\Z))
      | (?P<string>'(?:[^'\\]|\\.|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
      | (?P<quoted>`(?:[^`\\]|\\.)*`|"(?:[^"\\]|\\.)*")
      | (?P<word>[A-Za-z_]\w*)
      | (?P<number>\d[\w.]*)
      | (?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)
# FORMAT name, then nothing but settings: the usual end of a driver's query.
_PLAIN_FORMAT: Final = re.compile(
    r"\bFORMAT\s+(?P<name>[A-Za-z]\w*)(?:\s+SETTINGS\s[\w\s=,.'-]*)?\s*;?\s*\Z", re.IGNORECASE
)
_COMMENT: Final = re.compile(r"--|/\*|#")
_LATE_SETTINGS: Final = re.compile(r"\s+SETTINGS\s+\w+\s*=[^\n;]*", re.IGNORECASE)
_HEAD_END: Final = re.compile(r"[ \t\f]*;?[ \t\f]*(?:\r?\n)?")
_OPENING: Final = frozenset("([{")
_CLOSING: Final = frozenset(")]}")
_TAIL_CHARS: Final = 4096
ROW_READING_WORDS: Final = frozenset({"SELECT", "WITH", "FROM", "("})


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its kind, its text as written, where it starts and ends."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def word(self) -> str:
        """Upper-case text of a bare word or a symbol, empty for everything else."""
        return self.text.upper() if self.kind in {"word", "other"} else ""

    @property
    def name(self) -> str:
        """The identifier this token names, without its quotes; empty for other tokens."""
        if self.kind == "word":
            return self.text
        return re.sub(r"\\(.)", r"\1", self.text[1:-1]) if self.kind == "quoted" else ""


def tokens(text: str, start: int = 0) -> Iterator[Token]:
    """Tokens from `start`, without blanks and comments. Unclosed quotes come as single characters."""
    for match in _TOKEN.finditer(text, start):
        kind = match.lastgroup or "other"
        if kind == "tag":
            kind = "string"
        if kind != "space":
            yield Token(kind, match.group(), match.start(), match.end())


def first_word(text: str) -> str:
    """Upper-case first word (or symbol) of a statement."""
    return next((token.word for token in tokens(text)), "")


def output_format(text: str) -> tuple[str | None, str]:
    """The FORMAT that a query asks for, and the query without that clause."""
    tail = text[-_TAIL_CHARS:]
    if "format" not in tail.lower():
        return None, text
    match = None if _COMMENT.search(tail) else _PLAIN_FORMAT.search(tail)
    if match is not None:
        end_of_name = match.end("name")
        offset = len(text) - len(tail)
        return match["name"], text[: offset + match.start()] + text[offset + end_of_name :]
    found: tuple[Token, Token] | None = None
    depth, previous = 0, None
    for token in tokens(text):
        if token.text == "(":
            depth += 1
        elif token.text == ")":
            depth -= 1
        elif depth == 0 and previous is not None and previous.word == "FORMAT" and token.kind == "word":
            found = (previous, token)
        elif found is not None and token.word not in {";", "SETTINGS"} and previous is found[1]:
            found = None  # an alias or a column of that name
        previous = token
    if found is None:
        return None, text
    return found[1].text, text[: found[0].start] + text[found[1].end :]


def without_outfile(text: str) -> str:
    """The query without INTO OUTFILE: writing that file is the client's work, never the server's."""
    if "outfile" not in text.lower():
        return text
    kept = list(tokens(text))
    for index, token in enumerate(kept[:-2]):
        if (token.word, kept[index + 1].word) == ("INTO", "OUTFILE") and kept[index + 2].kind == "string":
            end = index + 3
            while end < len(kept) and kept[end].word in {"APPEND", "TRUNCATE", "AND", "STDOUT"}:
                end += 1
            if end + 1 < len(kept) and kept[end].word == "COMPRESSION":
                end += 2
                if end + 1 < len(kept) and kept[end].word == "LEVEL":
                    end += 2
            return text[: token.start] + text[kept[end - 1].end :]
    return text


@dataclass(frozen=True, slots=True)
class Insert:
    """The head of an INSERT: what the engine needs to take the data apart from the statement's text."""

    target: str
    """`INSERT INTO table (columns)`."""
    settings: str
    """Its SETTINGS clause with a blank before it, or nothing."""
    described: str
    """What DESCRIBE TABLE takes to tell the columns' types."""
    columns: str
    """The column list as written, without brackets; empty means all."""
    format: str
    """Format of the data; `Values` after VALUES."""
    data_start: int
    """Offset of the first byte of data in the statement's text."""


def parse_insert(text: str, complete: bool = True) -> Insert | Literal["select", "more"] | None:
    """Read the head of an INSERT.

    None: no INSERT. "select": its rows come from a query, so it is one plain statement. "more": the text ends
    inside the head (only when `complete` is false).
    """
    items = tokens(text)
    walk = _Walk(items, text)
    if walk.word() != "INSERT":
        incomplete = not complete and (walk.now is None or walk.now.end == len(text))
        return "more" if incomplete else None
    parsed = _insert_head(walk)
    if parsed == "more":
        # A finished text without VALUES, FORMAT or SELECT: the engine says what is missing.
        return None if complete else "more"
    if complete:
        return parsed
    # A word that touches the end may go on.
    decided = parsed.data_start if isinstance(parsed, Insert) else walk.now.end if walk.now else len(text)
    return "more" if decided >= len(text) else parsed


class _Walk:
    """One token of look-ahead over a statement."""

    def __init__(self, items: Iterator[Token], text: str) -> None:
        self._items = items
        self.text = text
        self.now: Token | None = next(items, None)
        self.last_end = 0

    def word(self) -> str:
        return self.now.word if self.now else ""

    def step(self) -> None:
        if self.now is not None:
            self.last_end = self.now.end
        self.now = next(self._items, None)

    def brackets(self) -> bool:
        """Step over a balanced bracket; false when the text ends inside."""
        depth = 0
        while self.now is not None:
            depth += (self.now.text == "(") - (self.now.text == ")")
            self.step()
            if depth == 0:
                return True
        return False


def _insert_head(walk: _Walk) -> Insert | Literal["select", "more"]:
    start = walk.now.start if walk.now else 0
    walk.step()
    for word in ("INTO", "TABLE"):
        if walk.word() == word:
            walk.step()
    described_start = walk.now.start if walk.now else 0
    function = walk.word() == "FUNCTION"
    if function:
        walk.step()
    while walk.now is not None and (walk.now.kind in {"word", "quoted", "other"} and walk.word() != "("):
        walk.step()
        if walk.word() != ".":
            break
        walk.step()
    if function and not walk.brackets():
        return "more"
    described = walk.text[described_start : walk.last_end]
    if walk.word() == "PARTITION":
        walk.step()
        walk.step()
        if walk.word() == "(" and not walk.brackets():
            return "more"
    columns = ""
    head_end = walk.last_end
    if walk.word() == "(":
        opened = walk.now.end if walk.now else 0
        walk.step()
        if walk.word() in ROW_READING_WORDS:
            return "select"
        depth = 1
        while walk.now is not None and depth:
            depth += (walk.now.text == "(") - (walk.now.text == ")")
            closed = walk.now.start
            walk.step()
        if depth:
            return "more"
        columns = walk.text[opened:closed].strip()
        head_end = walk.last_end
    settings = _settings_clause(walk)
    word = walk.word()
    target = walk.text[start:head_end]
    if word == "VALUES" and walk.now is not None:
        return Insert(target, settings, described, columns, "Values", walk.now.end)
    if word == "FORMAT":
        return _format_tail(walk, Insert(target, settings, described, columns, "", 0))
    return "select" if word else "more"


def _settings_clause(walk: _Walk) -> str:
    """` SETTINGS a = 1, b = 2` if it stands here, else an empty text."""
    if walk.word() != "SETTINGS":
        return ""
    start = walk.now.start if walk.now else 0
    walk.step()
    while walk.now is not None and walk.word() not in {"VALUES", "FORMAT", "SELECT", "WITH", "FROM", "("}:
        walk.step()
    return " " + walk.text[start : walk.last_end]


def _format_tail(walk: _Walk, head: Insert) -> Insert | Literal["more"]:
    walk.step()
    if walk.now is None or walk.now.kind not in {"word", "quoted"}:
        return "more"
    name, end, settings = walk.now.name, walk.now.end, head.settings
    rest = _LATE_SETTINGS.match(walk.text[end : end + _TAIL_CHARS])
    if rest is not None and not settings:
        settings = " " + rest.group().strip()
        end += rest.end()
    # One line break parts the statement from its data, and is not part of the data.
    blank = _HEAD_END.match(walk.text, end)
    return replace(head, settings=settings, format=name, data_start=blank.end() if blank else end)


def settings_in(items: list[Token]) -> Iterator[tuple[str, str]]:
    """Pairs (name, literal text) of every SETTINGS clause and SET statement among the tokens."""
    index = 0
    while index < len(items):
        opens = items[index].word == "SETTINGS" or (index == 0 and items[index].word == "SET")
        index += 1
        while opens and index + 2 < len(items) and items[index].name and items[index + 1].text == "=":
            name, index = items[index].name, index + 2
            value, depth = items[index].text, int(items[index].text in _OPENING)
            while index + 1 < len(items) and (depth or items[index + 1].text not in {",", ")", ";"}):
                if not depth and items[index + 1].kind == "word" and items[index].text not in {"-", "+"}:
                    break
                index += 1
                value += items[index].text
                depth += (items[index].text in _OPENING) - (items[index].text in _CLOSING)
            yield name, value
            index += 1
            if index < len(items) and items[index].text == ",":
                index += 1
            else:
                break


def creates_kafka_table(text: str) -> bool:
    """True when a statement would create a table of the Kafka engine (the folder would not open again)."""
    if "kafka" not in text.lower():
        return False
    items = list(tokens(text))
    return any(
        token.word == "ENGINE" and items[index + 1 + (items[index + 1].text == "=")].name.lower() == "kafka"
        for index, token in enumerate(items[:-2])
    )


def quote(text: str) -> str:
    """A string literal of ClickHouse's SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quote_name(text: str) -> str:
    """A quoted identifier of ClickHouse's SQL."""
    return "`" + text.replace("\\", "\\\\").replace("`", "\\`") + "`"


def parameter_text(text: str) -> str:
    """A value as the engine reads query parameters: escaped as in TSV."""
    for raw, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"), ("\0", "\\0")):
        text = text.replace(raw, escaped)
    return text
