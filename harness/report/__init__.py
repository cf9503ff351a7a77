"""What a run leaves behind: the terminal while it lasts, the files after it. Listeners only; nothing here decides."""

from harness.report.verdict_json import verdict_schema

__all__ = ["verdict_schema"]
