"""What `curriculum export` says at the end.

In:  an `ExportReport`.   Out: text.
"""

from __future__ import annotations

from pipeline.export import ExportReport


def export_report(report: ExportReport) -> str:
    """A few lines."""
    rows = f"{report.num_phases:,} phases, {report.num_steps:,} steps, {report.num_rows:,} rows"
    rows += f", {report.num_tokens:,} tokens"
    held_out = f", {report.held_out_rows:,} held-out rows" if report.held_out_rows else ""
    if report.num_files is None or report.num_bytes is None:
        return f"{report.out}: {report.request['to']} of {rows}{held_out} would be written."
    head = f"{report.out}: {report.request['to']}, {report.num_files:,} files, {report.num_bytes / 1e6:,.1f} MB"
    took = "was there already" if report.was_there else f"{report.seconds:.1f} s"
    return f"{head}, {took}\n{rows}{held_out}\nexport.json has the order of the steps, README.md how to read the rows."
