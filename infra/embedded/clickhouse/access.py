"""Who may log in, and what the read-only login may run.

The engine has no users, and its own read-only modes leak (files can be read and written). So a reader's statement
passes only if the engine's parser says that it is one statement that reads, its syntax tree has allowed roots and
table functions, and no function that reaches outside is named; it then runs in its normalised form on a
connection with `readonly = 2` and capped resources.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from infra.embedded.clickhouse import sql as text_of
from infra.embedded.clickhouse.engine import Engine
from infra.embedded.clickhouse.errors import (
    ACCESS_DENIED,
    AUTHENTICATION_FAILED,
    READONLY,
    SETTING_CONSTRAINT_VIOLATION,
    SYNTAX_ERROR,
    AccessError,
    ClickHouseError,
)
from infra.embedded.clickhouse.limits import UNHEARD_SETTINGS

_ROOTS: Final = frozenset(
    {
        "SelectWithUnionQuery", "SelectIntersectExceptQuery", "SelectQuery", "DescribeQuery", "Explain", "ShowTables",
        "ShowColumns", "ShowIndexes", "ShowFunctions", "ShowSetting", "ShowCreateTableQuery",
        "ShowCreateDatabaseQuery", "ShowCreateViewQuery", "ShowCreateDictionaryQuery", "ShowProcesslistQuery",
        "ShowEngineQuery", "ExistsTableQuery", "ExistsDatabaseQuery", "ExistsViewQuery", "ExistsDictionaryQuery",
        "Set", "UseQuery",
    }
)  # fmt: skip
# Statements that the engine calls control, though they change nothing but the reader's own session.
_SESSION_ROOTS: Final = frozenset({"Set", "UseQuery"})
_TABLE_FUNCTIONS: Final = frozenset(
    name.lower()
    for name in (
        "numbers", "numbers_mt", "zeros", "zeros_mt", "generateSeries", "generate_series", "primes", "values",
        "SQLStandardValues", "view", "viewExplain", "null", "generateRandom", "format", "mergeTreeIndex", "dictionary",
    )
)  # fmt: skip
# Functions that read files, call services or show the server's inside. `x APPLY file` and `arrayMap(file, x)` name
# a function without calling it, so any bare mention is refused; a column of that name is read as table.file.
_FORBIDDEN_FUNCTIONS: Final = re.compile(
    r"(?i:file|catboostEvaluate|showCertificate|getServerSetting|getMacro|filesystem\w*|evalMLMethod"
    r"|addressTo\w+|demangle|reload\w*)|(?:ai|AI)[A-Z]\w*"
)
_LOCKED_SETTINGS: Final = frozenset(
    {
        "readonly", "log_comment", "allow_ddl", "timeout_overflow_mode", "result_overflow_mode",
        "allow_introspection_functions", "max_concurrent_queries_for_user", "os_threads_nice_value_query",
        "timeout_before_checking_execution_speed", "max_temporary_data_on_disk_size_for_query",
        "format_display_secrets_in_show_and_select", "dialect",
    }
)  # fmt: skip
# Text in a setting may be SQL (`select`, `filter`), a path (`format_template_row`, `output_format_schema`) or an
# address: of these kinds only names that are known to be harmless may be set.
_TEXT_TYPES: Final = frozenset({"String", "Map", "URI", "SQLSecurityType"})
_HARMLESS_TEXTS: Final = frozenset(
    {
        "bool_false_representation", "bool_true_representation", "count_distinct_implementation",
        "force_data_skipping_indices", "format_csv_null_representation", "format_tsv_null_representation",
        "ignore_data_skipping_indices", "output_format_pretty_grid_charset", "output_format_sql_insert_table_name",
        "preferred_optimize_projection_name", "query_cache_tag", "workload",
    }
)  # fmt: skip
# Dashboards filter by it: conditions on columns pass, anything that could reach further does not.
_FILTERS: Final = "additional_table_filters"
_TREE_LINE: Final = re.compile(r"^(?P<indent> *)(?P<node>\w+)(?: (?P<rest>.*?))?(?: \(children \d+\))?$")
_CACHED_CHARS: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Login:
    """A checked login."""

    user: str
    reader: bool


@dataclass(frozen=True, slots=True)
class Users:
    """The two logins: the owner of the data and the read-only analyst."""

    owner: str
    owner_password: str
    reader: str
    reader_password: str

    def login(self, user: str, password: str) -> Login:
        """Check name and password; raises AccessError 516, the same for every cause and in the same time."""
        as_owner = _same(user, self.owner) & _same(password, self.owner_password)
        as_reader = _same(user, self.reader) & _same(password, self.reader_password)
        if not as_owner | as_reader:
            shown = re.sub(r"[^\w.@-]", "?", user[:64])
            raise AccessError(
                AUTHENTICATION_FAILED,
                f"{shown}: Authentication failed: password is incorrect, or there is no user with such name",
            )
        return Login(user, reader=not as_owner)


def _same(given: str, expected: str) -> bool:
    # Hashes have one length, so the comparison takes the same time for all.
    digests = [hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest() for value in (given, expected)]
    return hmac.compare_digest(*digests)


class ReadGate:
    """Decides on each statement of a reader. One for all sessions; safe for several threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._session = engine.session(reader=True)
        uncapped = {"async_insert", "max_threads"}
        self._caps = {
            name: value
            for name, value in engine.limits.settings().items()
            if value.isdecimal() and name not in uncapped | _LOCKED_SETTINGS
        }
        self._lock = threading.Lock()
        self._passed: OrderedDict[tuple[str, tuple[tuple[str, str], ...]], str] = OrderedDict()

    def check(self, sql: str, params: Mapping[str, str]) -> str:
        """The statement in the form to run. Raises AccessError, or the engine's error for broken syntax."""
        key = (sql, tuple(sorted(params.items())))
        with self._lock:
            if (passed := self._passed.get(key)) is not None:
                return passed
        normal = self._judge(sql, params)
        if len(sql) <= _CACHED_CHARS:
            with self._lock:
                self._passed[key] = normal
                while len(self._passed) > 256:
                    self._passed.popitem(last=False)
        return normal

    def _judge(self, sql: str, params: Mapping[str, str]) -> str:
        kind, statements = self._engine.classify(sql)
        if statements > 1:
            raise AccessError(SYNTAX_ERROR, "Syntax error (Multi-statements are not allowed)")
        with self._lock:
            normal = self._ask("SELECT formatQuerySingleLine({q:String})", {"q": text_of.parameter_text(sql)})
            tree = self._ask(f"EXPLAIN AST {normal}", params)
        normal = normal.rstrip("\n")
        root = self._check_tree(tree)
        if kind != "READ_ONLY" and root not in _SESSION_ROOTS:
            raise _read_only()
        self._check_names(normal)
        return normal

    def _ask(self, sql: str, params: Mapping[str, str]) -> str:
        return self._session.run(sql, params=params, format_="TSVRaw").decode("utf-8", "replace")

    def _check_tree(self, tree: str) -> str:
        root, stack = "", list[tuple[int, str]]()
        for line in tree.splitlines():
            match = _TREE_LINE.match(line)
            if match is None:
                continue  # a later line of a literal with line breaks
            depth, node, rest = len(match["indent"]), match["node"], match["rest"] or ""
            while stack and stack[-1][0] >= depth:
                stack.pop()
            parent = stack[-1][1] if stack else ""
            stack.append((depth, node))
            if depth == 0:
                root = node
            if (depth == 0 or parent == "Explain") and node not in _ROOTS | {"ExpressionList", "Identifier", "Set"}:
                raise _read_only()
            if node == "Function" and parent == "TableExpression":
                name = rest.split(" ", 1)[0]
                if name.lower() not in _TABLE_FUNCTIONS:
                    raise AccessError(ACCESS_DENIED, f"Table function {name} is not allowed for readers")
        if root not in _ROOTS:
            raise _read_only()
        return root

    def _check_names(self, normal: str) -> None:
        items = list(text_of.tokens(normal))
        for before, token in zip([None, *items], items, strict=False):
            if token.word == "OUTFILE":
                raise _read_only()
            if before is not None and before.word in {".", "AS"}:
                continue
            if token.name and _FORBIDDEN_FUNCTIONS.fullmatch(token.name):
                raise AccessError(
                    ACCESS_DENIED,
                    f"Function {token.name} is not allowed for readers (a column of that name is read as table.column)",
                )
        for name, value in text_of.settings_in(items):
            self.check_setting(name, value)

    def check_setting(self, name: str, value: str) -> None:
        """Raise AccessError 452 when a reader may not give a setting this value."""
        if name == _FILTERS:
            self._check_filters(value)
            return
        kind = self._engine.setting_types.get(name)
        if name in _LOCKED_SETTINGS or name == "profile" or (kind in _TEXT_TYPES and name not in _HARMLESS_TEXTS):
            raise AccessError(SETTING_CONSTRAINT_VIOLATION, f"Setting {name} should not be changed by readers")
        limit = self._caps.get(name)
        if limit is None:
            return
        number = value.strip("' ")
        if not re.fullmatch(r"\d+(\.\d*)?", number) or not 0 < float(number) <= int(limit):
            raise AccessError(
                SETTING_CONSTRAINT_VIOLATION, f"Setting {name} should be at least 1 and at most {limit} for readers"
            )

    def _check_filters(self, value: str) -> None:
        text = value.replace("\\\\", "\\").replace("\\'", "'")
        words = re.findall(r"[A-Za-z_]\w*", text)
        if re.search(r"[\\`\"$]", text) or any(
            word.upper() in {"SELECT", "WITH", "FROM"} or _FORBIDDEN_FUNCTIONS.fullmatch(word) for word in words
        ):
            raise AccessError(
                SETTING_CONSTRAINT_VIOLATION,
                f"Setting {_FILTERS} may hold plain conditions on columns only for readers",
            )

    def settings(self, given: Mapping[str, str]) -> dict[str, str]:
        """What of a driver's settings applies to a reader. Raises AccessError 452.

        Drivers send some settings unasked (limits, readonly), so what may not be changed of those is left out.
        """
        kept: dict[str, str] = {}
        for name, value in given.items():
            try:
                self.check_setting(name, value)
            except ClickHouseError:
                if name not in _LOCKED_SETTINGS and name not in self._caps and name not in UNHEARD_SETTINGS:
                    raise
                continue
            kept[name] = value
        return kept

    def close(self) -> None:
        """Close the gate's own session."""
        self._session.close()


def _read_only() -> AccessError:
    return AccessError(READONLY, "Cannot execute query in readonly mode: this login can only read")
