"""The API document as a page of plain HTML: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any, Final

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
code,pre{font:14px/1.45 ui-monospace,monospace;background:#f3f4f6;border-radius:4px}
code{padding:.1em .3em}pre{padding:.8rem;overflow-x:auto}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}
td,th{border-bottom:1px solid #d9dde3;padding:.3rem .6rem;text-align:left;vertical-align:top}
summary{cursor:pointer;font-weight:600;padding:.25rem 0}h2{margin-top:2.5rem}.need{color:#a40e26}
"""


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Cells are HTML already."""
    cells = "".join(f"<th>{name}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{body}</table>"


def _kind_of(schema: dict[str, Any]) -> str:
    name: str = schema["properties"]["kind"]["const"]
    return name


def _type_in_words(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type_in_words(option) for option in schema["anyOf"] if option.get("type") != "null")
    if "enum" in schema:
        return "one of " + ", ".join(f"<code>{escape(str(word))}</code>" for word in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    words = str(schema.get("type", "any"))
    if "format" in schema:
        words += f", {schema['format']}"
    if "maxLength" in schema:
        words += f", up to {schema['maxLength']} characters"
    return escape(words)


def _fields(schema: dict[str, Any]) -> str:
    required = set(schema["required"])
    return _table(
        ("member", "type", "meaning"),
        (
            (
                f"<code>{escape(name)}</code>"
                + (' <span class="need" title="required">*</span>' if name in required else ""),
                _type_in_words(field),
                escape(field.get("description", "")),
            )
            for name, field in schema["properties"].items()
        ),
    )


def docs_page(document: dict[str, Any]) -> bytes:
    """The page served at ``/docs``."""
    operation = document["paths"]["/v1/events"]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    kinds = [
        schema
        for schema in document["components"]["schemas"].values()
        if "const" in schema.get("properties", {}).get("kind", {})
    ]
    one = json.dumps(examples["survey_response"]["value"], ensure_ascii=False, indent=2)
    parts = [
        f"<h1>{escape(document['info']['title'])}</h1><p>{escape(document['info']['description'])} ",
        'The same for machines: <a href="/openapi.json">openapi.json</a>.</p>',
        f"<h2><code>POST /v1/events</code></h2><p>{escape(operation['summary'])}</p>",
        *(f"<p>{escape(paragraph)}</p>" for paragraph in operation["description"].split("\n\n")),
        "<pre>curl -i http://127.0.0.1:8080/v1/events -H 'Content-Type: application/json' -d @- &lt;&lt;'END'\n",
        f"{escape(one)}\nEND</pre>",
        "<h2>Answers</h2>",
        _table(
            ("status", "meaning"),
            (
                (f"<code>{status}</code>", escape(response["description"]))
                for status, response in operation["responses"].items()
            ),
        ),
        "<h2>Verdicts</h2>",
        _fields(document["components"]["schemas"]["Result"]),
        "<h2>Events by kind</h2><p><span class='need'>*</span> is required. Members that a kind does not list are ",
        "refused.</p>",
        *(
            f"<details><summary>{escape(_kind_of(schema))}: {escape(schema['description'])}</summary>"
            f"{_fields(schema)}</details>"
            for schema in kinds
        ),
        "<h2>Examples</h2>",
        *(
            f"<details><summary>{escape(example['summary'])}</summary>"
            f"<pre>{escape(json.dumps(example['value'], ensure_ascii=False, indent=2))}</pre></details>"
            for example in examples.values()
        ),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Touchstone ingest</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"{''.join(parts)}</body></html>"
    )
    return page.encode()
