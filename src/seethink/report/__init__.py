"""One self-contained HTML page per run: figures, tables and a rollout viewer."""

from seethink.report.page import write_report
from seethink.report.scores import summary_table

__all__ = ["summary_table", "write_report"]
