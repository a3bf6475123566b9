"""``quickstart``: from nothing to a picture and a report."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.command_line import call, fails, unfinished_files


@pytest.mark.slow
def test_quickstart_ends_with_a_picture_and_a_report(monkeypatch, tmp_path):
    patients = 17
    assert round(0.15 * patients) == 3, "the fewest test patients that the report accepts"
    monkeypatch.setattr("mammogan_tf_cli.quickstart.PATIENTS", patients)
    out = tmp_path / "quickstart"
    result = call("quickstart", "--preset", "tiny", "--out", out)
    assert result.exit_code == 0, result.output
    picture, report = (Path(line.split()[1]) for line in result.stdout.splitlines())
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["picture", "report"]
    with Image.open(picture) as image:
        assert image.height > image.width > 0
    assert report.suffix == ".html"
    assert "diagnosis" in report.read_text()
    assert json.loads(report.with_suffix(".json").read_text())["measures"]
    for step in range(1, 7 + 1):
        assert f"[{step}/7 after " in result.stderr
    assert {path.parent.name for path in (out / "saved_models").glob("*/1")} == {"unet", "generator", "synthesize"}
    assert not unfinished_files(out)


def test_quickstart_wants_a_new_folder(tmp_path):
    (tmp_path / "note.txt").touch()
    fails("quickstart", "--out", tmp_path, says="expected a new or an empty folder ... --out")
    fails("quickstart", "--out", tmp_path / "note.txt", says="is a file", status=2)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
