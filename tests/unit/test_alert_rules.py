"""The alert rules of docs/monitoring.md: they ask for metrics that there are, and speak up when nothing is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

TEXT = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
BLOCK = re.search(r"```yaml\n(groups:\n.*?)```", TEXT, re.DOTALL)
assert BLOCK is not None
RULES: list[dict[str, Any]] = yaml.safe_load(BLOCK[1])["groups"][0]["rules"]
PROMTOOL = shutil.which("promtool")


def test_rules_ask_for_metrics_that_are_in_the_tables() -> None:
    asked = {name for rule in RULES for name in re.findall(r"\bpgcleanup_\w+", rule["expr"])}

    documented = set(re.findall(r"^\| `(pgcleanup_\w+)", TEXT, re.MULTILINE))
    assert asked
    assert asked <= documented


def test_each_alert_has_what_to_type() -> None:
    assert [rule["alert"] for rule in RULES] == re.findall(r"^### (FileDeletions\w+)$", TEXT, re.MULTILINE)


UP = 'up{{job="pgcleanup",instance="{}"}}'
FILE = 'node_textfile_mtime_seconds{file="/var/lib/node_exporter/pgcleanup.prom"}'
HEALTHY = 'pgcleanup_health{database="default",state="healthy"}'
READABLE = 'pgcleanup_readable{database="default",part="backlog"}'
SERIES = {
    "nothing at all": {},
    "one service of two is down": {UP.format("a"): "1x30", UP.format("b"): "0x30", READABLE: "1x30"},
    "file no longer written": {FILE: "0x30", HEALTHY: "1x30"},
    "fine": {UP.format("a"): "1x30", READABLE: "1x30"},
    "fine in a file": {FILE: "0+60x30", HEALTHY: "1x30"},
}


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool: apt-get install prometheus")
@pytest.mark.parametrize("name", SERIES)
def test_silence_is_an_alert(name: str, tmp_path: Path) -> None:
    series = {"x": "0x30", **SERIES[name]}
    firing = [] if name.startswith("fine") else ["FileDeletionsSilent"]
    (tmp_path / "rules.yml").write_text(BLOCK[1])  # type: ignore[index]
    expression = 'count by (alertname) (ALERTS{alertstate="firing"}) > 0'
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": key, "values": values} for key, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": expression,
                        "eval_time": "30m",
                        "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in firing],
                    }
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))

    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
