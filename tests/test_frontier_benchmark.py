"""The frontier reads each tier's own report, and its plot and table say what it found."""

import hashlib
import json
import sys
from dataclasses import replace

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("scipy")
pytest.importorskip("onnx")
pytest.importorskip("torch")

from benchmarks import frontier
from benchmarks.frontier import KIND, REFERENCE, Tier, draw, main, table, tier_of
from benchmarks.speed import worker
from benchmarks.speed.worker import BUNDLE

SPEED = {"cpu_ratio": [10.5, 9.0, 12.0], "pairs_a_second": 210.0}


def quality_of(folder, *, value=0.65, limit=None):
    digest = hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()
    return {
        "summary": {"bundle_hash": digest, "margin": 0.02, "worst_difference": -0.03},
        "macro": {"grader": {"value": value, "low": value - 0.01, "high": value + 0.02}},
        "limit_queries": limit,
    }


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "bundle.json").write_text("{}", encoding="utf-8")
    (folder / "encoder.int8.onnx").write_bytes(b"0" * 2_500_000)
    return folder


def test_a_tier_is_read_from_its_bundle_its_report_and_its_race(bundle):
    tier = tier_of("nano", bundle, quality_of(bundle), SPEED)
    assert (tier.macro_ap, tier.low, tier.high) == (0.65, 0.64, 0.67)
    assert (tier.megabytes, tier.times, tier.times_low, tier.pairs_a_second) == (2.5, 10.5, 9.0, 210.0)
    assert tier.has_speed_goal
    assert not replace(tier, times=9.9).has_speed_goal


def test_a_report_of_another_bundle_or_of_a_part_is_refused(bundle):
    quality = quality_of(bundle)
    with pytest.raises(SystemExit, match="some queries only"):
        tier_of("nano", bundle, {**quality, "limit_queries": 20}, SPEED)
    (bundle / "bundle.json").write_text('{"name": "other"}', encoding="utf-8")
    with pytest.raises(SystemExit, match="of another bundle"):
        tier_of("nano", bundle, quality, SPEED)


def test_table_and_plot_name_every_tier(bundle, tmp_path):
    nano = tier_of("nano", bundle, quality_of(bundle), SPEED)
    default = Tier("default", 0.67, 0.66, 0.68, 0.04, -0.02, 23.9, 40.0, 2.5, 2.0, 3.0)
    lines = table([nano, default]).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["default", "nano"]
    assert lines[2].split()[4] == "0.020"  # what it loses to the best
    for name in ("a.svg", "b.svg"):
        draw([nano, default], tmp_path / name)
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "nano, 2 MB" in text or "nano, 3 MB" in text
    assert "default, 24 MB" in text
    assert text == (tmp_path / "b.svg").read_text(encoding="utf-8")  # no date, no random names


def test_the_command_writes_what_it_printed(bundle, tmp_path, monkeypatch, capsys):
    raced = {f"{BUNDLE}{bundle}": {KIND: SPEED}, REFERENCE: {KIND: {"pairs_a_second": 20.0}}}
    monkeypatch.setattr(frontier, "measure_speed", lambda bundles, **options: raced)
    report, output = tmp_path / "quality.json", tmp_path / "frontier.json"
    report.write_text(json.dumps(quality_of(bundle)), encoding="utf-8")
    options = ["--base", "encoder", "--peers", sys.executable, "--plot", str(tmp_path / "plots" / "p.svg")]
    assert main(["--tier", "nano", str(bundle), str(report), *options, "--output", str(output)]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last == json.loads(output.read_text(encoding="utf-8"))
    assert last["tiers"][0]["times"] == 10.5
    assert last["reference_pairs_a_second"] == 20.0
    assert (tmp_path / "plots" / "p.svg").exists()


def test_a_worker_takes_a_bundle_by_its_folder(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(worker, "relgrade_grader", lambda folder, n_threads: seen.append((folder, n_threads)))
    worker.load(f"{BUNDLE}{tmp_path}", tmp_path / "elsewhere", 2)
    assert seen == [(tmp_path, 2)]
