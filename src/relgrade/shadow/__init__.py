"""An LLM grader and ours side by side: logged verdicts replayed, or both at once live, and a share switched over.

`read_log` and `replay` compare afterwards, `ShadowGrader` while the application runs, `build_report` says what came of
it. Agreement is no measure of truth: where the two differ, either may be right, and the report names pairs to label.
"""

from relgrade.shadow.compare import Compared, replay
from relgrade.shadow.live import ShadowGrader, ShadowResult
from relgrade.shadow.readers import LOG_KINDS, LogSettings, read_log
from relgrade.shadow.report import Prices, ReportSettings, ShadowReport, build_report
from relgrade.shadow.verdicts import LoggedVerdict, parse_verdict

__all__ = [
    "LOG_KINDS",
    "Compared",
    "LogSettings",
    "LoggedVerdict",
    "Prices",
    "ReportSettings",
    "ShadowGrader",
    "ShadowReport",
    "ShadowResult",
    "build_report",
    "parse_verdict",
    "read_log",
    "replay",
]
