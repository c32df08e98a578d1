"""What a choice without labels was worth: curves, correlation, regret, and a page to read.

Everything is recomputed from score matrices in milliseconds; no detector runs here, and neither
torch nor optuna is imported. ``write_report`` does the whole of it; the parts are public:

- ``load_run`` and ``load_csv`` read a ``Source``,
- ``curves_table`` gives the stage curves as a tidy table,
- ``correlate`` gives ``correlation.json`` as a dict, and ``verdict`` one sentence of it.
"""

from reports.findings.correlation import correlate
from reports.findings.curves import curves_table
from reports.findings.source import Source, Stage, load_csv, load_run
from reports.findings.verdict import verdict
from reports.page.set_page import write_audit_page
from reports.report import write_report

__all__ = [
    "Source",
    "Stage",
    "correlate",
    "curves_table",
    "load_csv",
    "load_run",
    "verdict",
    "write_audit_page",
    "write_report",
]
