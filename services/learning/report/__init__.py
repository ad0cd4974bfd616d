"""What a fit found, as a page that can be read and passed on: HTML in one file, and its pictures beside it."""

from services.learning.report.content import Example, HeldOut, ReportContent
from services.learning.report.page import Report, render
from services.learning.report.write import write_report

__all__ = ["Example", "HeldOut", "Report", "ReportContent", "render", "write_report"]
