"""Writes deploy/grafana/relgrade.json; tests/test_deploy.py fails while it is out of date.

Run it with `python deploy/make_dashboard.py`.
"""

import json
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "grafana" / "relgrade.json"
WIDTH, HEIGHT = 12, 8  # of a panel, of Grafana's 24 columns

PANELS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("Requests", "reqps", (("sum by (route, status) (rate(relgrade_requests_total[5m]))", "{{route}} {{status}}"),)),
    (
        "Latency",
        "s",
        tuple(
            (
                f"histogram_quantile({q}, sum by (le) (rate(relgrade_request_seconds_bucket"
                '{route=~"/v1/grade|/.*rerank.*"}[5m])))',
                f"p{int(float(q) * 100)}",
            )
            for q in ("0.5", "0.95", "0.99")
        ),
    ),
    ("Documents", "ops", (("sum by (outcome) (rate(relgrade_documents_total[5m]))", "{{outcome}}"),)),
    (
        "Kept share",
        "percentunit",
        (
            (
                'sum by (model) (rate(relgrade_documents_total{outcome="kept"}[15m])) '
                "/ sum by (model) (rate(relgrade_documents_total[15m]))",
                "{{model}}",
            ),
        ),
    ),
    ("Probability of documents", "short", (("sum by (le) (increase(relgrade_probability_bucket[15m]))", "{{le}}"),)),
    (
        "Waiting",
        "s",
        (("histogram_quantile(0.95, sum by (le) (rate(relgrade_queue_seconds_bucket[5m])))", "p95 until begun"),),
    ),
    (
        "Documents in the queue",
        "short",
        (("relgrade_queue_documents", "documents"), ("relgrade_requests_in_flight", "requests")),
    ),
    (
        "Batch fill",
        "percentunit",
        (("sum(rate(relgrade_batch_fill_sum[5m])) / sum(rate(relgrade_batch_fill_count[5m]))", "mean"),),
    ),
    ("Tokens", "ops", (("sum by (model) (rate(relgrade_tokens_total[5m]))", "{{model}}"),)),
    (
        "Errors and policies",
        "ops",
        (
            ("sum by (kind) (rate(relgrade_errors_total[5m]))", "{{kind}}"),
            ("sum by (policy, reason) (rate(relgrade_on_error_total[5m]))", "{{policy}}: {{reason}}"),
        ),
    ),
    ("Memory", "bytes", (("process_resident_memory_bytes", "resident"),)),
    ("Bundles", "short", (("relgrade_bundle_info", "{{model}} {{hash}}"),)),
)


def panel(number: int, title: str, unit: str, queries: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """One time series."""
    source = {"type": "prometheus", "uid": "prometheus"}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "gridPos": {"x": WIDTH * (number % 2), "y": HEIGHT * (number // 2), "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": source, "expr": expression, "legendFormat": legend}
            for i, (expression, legend) in enumerate(queries)
        ],
    }


def text() -> str:
    """The file."""
    dashboard = {
        "uid": "relgrade",
        "title": "relgrade",
        "schemaVersion": 41,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "panels": [panel(i, *each) for i, each in enumerate(PANELS)],
    }
    return json.dumps(dashboard, indent=1) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
