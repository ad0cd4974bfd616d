"""The one place that writes a report to files."""

from __future__ import annotations

from pathlib import Path

from services.learning.report.content import ReportContent
from services.learning.report.page import render


def write_report(folder: Path, content: ReportContent) -> Path:
    """Write report.html, and its pictures as NAME.png beside it, into ``folder`` (made if it is not there).

    The page needs none of the other files. Returns its path. Raises OSError where nothing can be written.
    """
    report = render(content)
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in report.pictures.items():
        (folder / f"{name}.png").write_bytes(picture.png)
    page = folder / "report.html"
    page.write_text(report.html, "utf-8")
    return page
