import json
import os
import shutil

import numpy as np
import pytest

from mammogan_tf.config import GANConfig
from mammogan_tf.data.splits import Split
from mammogan_tf.errors import DataError
from mammogan_tf.evaluation.compare import compare, difference, find_report, read_report
from mammogan_tf.evaluation.writing import digest
from mammogan_tf.files import write_json
from mammogan_tf.training.run import Run
from tests.command_line import call, fails


def write(folder, value: float, without: dict[str, float] | None, n: int = 8, **changes):
    """A report with one measure."""
    estimate = {"value": value, "low": value - 0.196, "high": value + 0.196, "n": n, "patients": 4}
    report = {
        "format": 6,
        "size": 64,
        "view": "whole",
        "segmented_by": "the evaluation U-Net",
        "evaluator": "0123",
        "measures": {"fidelity": {"ssim_own_film": estimate, "ssim_left_right": {"not computed": "no such pair"}}},
        "memorisation": {
            "passed": value < 0.6,
            "rule": "",
            "checked": ["pixels"],
            "reasons": ["copies"] if value >= 0.6 else [],
        },
        **changes,
    }
    write_json(folder / "report.json", report)
    if without is not None:
        kept = {"report": digest(report), "without": {"fidelity": {"ssim_own_film": without}}}
        write_json(folder / "patients.json", kept)
    return folder


T = 3.1824
"""Half of a 95 % interval of four patients, in standard errors: Student's t with three degrees of freedom."""

A = {"p": 0.4, "q": 0.5, "r": 0.6, "s": 0.5}


def reported(tmp_path, without_b, value: float = 0.7):
    paths = write(tmp_path / "a", 0.5, A), write(tmp_path / "b", value, without_b)
    return [read_report(path) for path in paths]


def test_differences_on_the_same_patients_are_paired(tmp_path):
    changes = np.array([0.2, 0.21, 0.19, 0.2])
    pair = reported(tmp_path, {name: value + change for (name, value), change in zip(A.items(), changes, strict=True)})
    found = difference(*pair, "fidelity", "ssim_own_film")
    error = np.sqrt(3 / 4 * np.sum((changes - 0.2) ** 2))
    assert found["value"] == pytest.approx(0.7 - 0.5)
    assert found["low"] == pytest.approx(0.2 - T * error, rel=1e-4)
    assert found["high"] == pytest.approx(0.2 + T * error, rel=1e-4)
    assert "note" not in found


@pytest.mark.parametrize("names", ["pqrs", "opqr"])
def test_the_error_of_a_few_blocks_is_no_surer_for_their_many_patients(tmp_path, names):
    pair = reported(tmp_path, dict(zip(names, (0.6, 0.71, 0.79, 0.7), strict=True)))
    few = difference(*pair, "fidelity", "ssim_own_film")
    for each in pair:
        each.estimate("fidelity", "ssim_own_film")["patients"] = 40
    assert difference(*pair, "fidelity", "ssim_own_film") == few | {"patients": 40}


@pytest.mark.parametrize("without", [None, {"other": 0.5, "q": 0.5, "r": 0.5, "s": 0.5}])
def test_differences_on_other_patients_are_not(tmp_path, without):
    found = difference(*reported(tmp_path, without), "fidelity", "ssim_own_film")
    errors = [
        np.sqrt(3 * np.var(list(A.values()))),
        np.sqrt(3 * np.var(list(without.values()))) if without else 0.196 / T,
    ]
    assert found["high"] - found["value"] == pytest.approx(T * np.hypot(*errors), rel=1e-4)
    assert found["note"] == "unpaired"


@pytest.mark.parametrize("numbers", [(8, 6), (6, 8)])
def test_a_difference_has_the_smaller_number_of_films(tmp_path, numbers):
    pair = [read_report(write(tmp_path / str(n), 0.5, None, n)) for n in numbers]
    assert difference(*pair, "fidelity", "ssim_own_film")["n"] == 6


def test_patients_are_those_of_their_own_report(tmp_path):
    a, b = (
        write(tmp_path / name, value, {k: v + value for k, v in A.items()}) for name, value in (("a", 0.5), ("b", 0.7))
    )
    both = shutil.copytree(a, tmp_path / "both")
    (both / "report.json").rename(both / "A.json")
    shutil.copy(b / "report.json", both / "B.json")
    copies = [read_report(both / name) for name in ("A.json", "B.json")]
    assert [bool(copy.without) for copy in copies] == [True, False]
    assert difference(*copies, "fidelity", "ssim_own_film")["note"] == "unpaired"
    assert "note" not in difference(read_report(a), read_report(b), "fidelity", "ssim_own_film")


def test_an_interval_that_ends_at_the_scale_s_end_has_the_error_of_its_longer_half(tmp_path):
    pair = [read_report(write(tmp_path / name, 0.5, None)) for name in "ab"]
    pair[1].report["measures"]["fidelity"]["ssim_own_film"] |= {"value": 0.95, "low": 0.95 - 0.196, "high": 1.0}
    found = difference(*pair, "fidelity", "ssim_own_film")
    assert found["high"] - found["value"] == pytest.approx(np.hypot(0.196, 0.196))


def test_the_table(tmp_path):
    reported(tmp_path, {name: value + 0.2 for name, value in A.items()})
    write(tmp_path / "c", 0.5, None, size=32, segmented_by="the run's U-Net")
    text = compare([tmp_path / name for name in "abc"], tmp_path / "table.md")
    assert (tmp_path / "table.md").read_text() == text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert [len(row) for row in rows] == [6] * 4  # without the measure that no report has
    assert rows[0][3:] == [f"C: {tmp_path / 'c'}", "B - A", "C - A |"]
    assert rows[2][4] == "+0.200 [0.200, 0.200]*"
    assert rows[2][5].startswith("+0.000 [-0.436, 0.436] (unpaired)")
    assert rows[3][1:4] == ["PASS (pixels)", "FAIL: copies", "PASS (pixels)"]
    assert "differ in size or view (32 pixels (whole), 64 pixels (whole))" in text
    assert "Segmentation is that of several networks (the evaluation U-Net, the run's U-Net)" in text


@pytest.mark.parametrize("evaluator", ["0123", "4567"])
def test_what_several_evaluators_see_does_not_compare(tmp_path, evaluator):
    paths = [write(tmp_path / "a", 0.5, None), write(tmp_path / "b", 0.5, None, evaluator=evaluator)]
    assert ("The evaluation U-Nets are different networks" in compare(paths)) == (evaluator != "0123")


def test_a_difference_below_0_has_its_star(tmp_path):
    reported(tmp_path, {name: value + 0.2 for name, value in A.items()})
    assert " | -0.200 [-0.200, -0.200]* |\n" in compare([tmp_path / name for name in "ba"])


def test_reports_of_another_view_do_not_compare(tmp_path):
    paths = [write(tmp_path / view, 0.5, None, view=view) for view in ("whole", "roi")]
    assert "differ in size or view (64 pixels (roi), 64 pixels (whole))" in compare(paths)


@pytest.mark.parametrize(
    ("order", "row"),
    [
        ("ab", "0.500 [0.304, 0.696] | not computed |  |"),
        ("ba", "not computed | 0.500 [0.304, 0.696] |  |"),
    ],
    ids=["the second", "the first"],
)
def test_what_one_report_lacks_is_in_the_table(tmp_path, order, row):
    write(tmp_path / "a", 0.5, None)
    write(tmp_path / "b", 0.5, None, measures={"fidelity": {}})
    assert f"| fidelity: SSIM with the real film of the same mask | {row}\n" in compare(
        [tmp_path / name for name in order]
    )


def test_what_one_report_lacks_has_no_difference(tmp_path):
    pair = reported(tmp_path, None)
    assert difference(*pair, "fidelity", "ssim_left_right") == {"not computed": f"{tmp_path / 'a'}: no such pair"}
    assert "not in this report" in difference(*pair, "downstream", "auc")["not computed"]


def test_where_a_report_is_found(tmp_path):
    run = write(tmp_path / "run", 0.5, None)  # the report of a training has another form
    write_json(run / "config.json", {})
    with pytest.raises(DataError, match="a run with one inside it, received: none"):
        find_report(run)
    older, newer = write(run / "zz-older", 0.5, None), write(run / "aa-newer", 0.6, None)
    os.utime(older / "report.json", (1, 1))
    assert find_report(run) == newer / "report.json"
    assert find_report(older) == find_report(older / "report.json") == older / "report.json"


def test_a_report_of_what_a_run_had_before_it_went_on_is_not_its_own(tmp_path):
    run = Run.create(tmp_path, GANConfig(), Split(("a",), ("b",), ("c",)), ["data"])
    write(run.path / "evaluation", 0.5, None, step=1600)
    run.write_json("report.json", {"best_step": 1600})
    assert read_report(run.path).report["step"] == 1600
    run.write_json("report.json", {"best_step": 2200})
    with pytest.raises(DataError, match=f"of step 2200, received: one of step 1600; .*--gan {run.path}"):
        read_report(run.path)
    assert read_report(run.path / "evaluation").report["step"] == 1600


def test_what_is_no_report(tmp_path):
    file = tmp_path / "report.json"
    for content, says in (
        ("{", "a broken file"),
        ("[]", r"received: a broken file \(other JSON\)"),
        (json.dumps({"dice": {}}), "other JSON"),
        (json.dumps({"format": 6}), "other JSON"),
        (json.dumps({"format": 7, "measures": {}}), "received: 7"),
    ):
        file.write_text(content)
        with pytest.raises(DataError, match=says):
            read_report(tmp_path)
    write(tmp_path, 0.5, None)
    for content in ("[]", '{"without": []}'):
        (tmp_path / "patients.json").write_text(content)
        with pytest.raises(DataError, match=r"other JSON in patients\.json"):
            read_report(tmp_path)
    report = json.loads(file.read_text())
    (tmp_path / "patients.json").write_text(json.dumps({"report": digest(report)}))
    assert read_report(tmp_path).without == {}
    with pytest.raises(DataError, match="2 to 26 reports, received: 1"):
        compare([tmp_path])


WHOLE = {"value": 1, "low": 0.5, "high": 1.5, "n": 8, "patients": 4}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"measures": []}, "report: measures"),
        ({"measures": {"fidelity": []}}, "measures: fidelity"),
        ({"measures": {"fidelity": {"ssim_own_film": 0.5}}}, "fidelity: ssim_own_film"),
        ({"measures": {"fidelity": {"ssim_own_film": {}}}}, "fidelity, ssim_own_film: not computed"),
        *(
            ({"measures": {"fidelity": {"ssim_own_film": WHOLE | {key: "0.5"}}}}, f"fidelity, ssim_own_film: {key}")
            for key in WHOLE
        ),
        *(({key: None}, f"report: {key}") for key in ("size", "view", "segmented_by", "evaluator", "memorisation")),
        ({"memorisation": {"passed": True, "reasons": []}}, "memorisation: checked"),
    ],
)
def test_a_report_that_lacks_what_is_read_is_broken(tmp_path, changes, says):
    write(tmp_path, 0.5, None, measures={"fidelity": {"ssim_own_film": WHOLE}})
    read_report(tmp_path)
    write(tmp_path, 0.5, None, **changes)
    says = rf"received: a broken file \({says} is missing, or of another type\); write it again"
    with pytest.raises(DataError, match=says):
        read_report(tmp_path)


def test_a_table_takes_the_place_of_no_report(tmp_path):
    reported(tmp_path, A)
    before = (tmp_path / "b" / "report.json").read_text()
    with pytest.raises(DataError, match=r"b/report\.json: expected a file of its own .* received: one of the reports"):
        compare([tmp_path / "a", tmp_path / "b"], tmp_path / "b" / "report.json")
    assert (tmp_path / "b" / "report.json").read_text() == before


def test_on_the_command_line(tmp_path):
    reported(tmp_path, A)
    result = call("compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "table.md")
    assert result.exit_code == 0
    assert result.stdout == (tmp_path / "table.md").read_text()
    (tmp_path / "empty").mkdir()
    fails("compare", tmp_path / "a", tmp_path / "empty", says="expected a report ... received: none of these")
    fails("compare", tmp_path / "a", tmp_path / "nowhere", says="expected a report ... received: none of these")
