import re
from html import escape
from html.parser import HTMLParser

import jsonschema
import pytest

from mammogan_tf.evaluation.page import render_page
from mammogan_tf.evaluation.sections import SECTIONS, Picture
from mammogan_tf.evaluation.words import HEADLINES, describe, format_estimate, in_words, render_card, render_markdown
from tests.report_schema import SCHEMA

ESTIMATE: dict = {"value": 0.71349, "low": 0.6, "high": 0.8, "n": 40, "patients": 20}
MISSING: dict = {"not computed": "needs 3 patients or more, found 1"}


@pytest.fixture
def report() -> dict:
    measures: dict = {s.key: {m.key: dict(ESTIMATE) for m in s.measures if "inception" not in m.key} for s in SECTIONS}
    measures["obedience"]["dice_lesion"] = MISSING | {"ceiling": MISSING}
    measures["fidelity"]["ssim_own_film"] |= {"floor": ESTIMATE | {"value": 0.25}}
    measures["obedience"]["dice_dense"] |= {"ceiling": ESTIMATE, "control": ESTIMATE, "note": "it cannot tell"}
    return {
        "format": 6,
        "version": "0.1.0",
        "model": "runs/<train-gan>/00001",
        "step": 1600,
        "kind": "gan",
        "masks": "unet",
        "size": 64,
        "view": "whole",
        "segmented_by": "the evaluation U-Net",
        "evaluator": "0123",
        "films": {"train": 242, "test": 48, "test_patients": 24},
        "synthetic": {"images": 1008, "seed": 7, "tied": True, "masks_of_training": 0},
        "memorisation": {
            "passed": False,
            "rule": "Pass: no copies.",
            "checked": ["pixels"],
            "reasons": ["pixels: 3 copies"],
        },
        "measures": measures,
    }


@pytest.fixture
def page(report) -> str:
    pictures = {section.key: [Picture("one", b"png", f"Figure of {section.key}.")] for section in SECTIONS}
    return render_page(report, b"sheet", pictures)


def test_of_images_it_does_not_say_what_their_maker_was_trained_on(report):
    assert "24 patients that no network was trained on. Training films: 242." in describe(report)
    text = describe(report | {"kind": "images", "step": None})
    assert "24 patients that the evaluation U-Net was not trained on. Training films: 242. What the maker" in text


def test_masks_of_a_cross_validation_are_of_networks_that_know_the_test_films(report):
    report["masks"] = "cross-validation"
    text = describe(report)
    assert (
        "24 patients that neither the GAN nor the evaluation U-Net was trained on. Training films: 242. The networks that drew"
        in text
    )
    assert "Masks: cross-validation." in text


def test_what_was_evaluated_with_what(report):
    assert describe(report | {"view": "roi"}) == (
        "1008 synthetic images of 64 x 64 pixels (roi view) from the masks of 48 test windows of 24 patients that no network "
        "was trained on. Training windows: 242. Generator of step 1600. Masks: unet. Segmentation: the evaluation U-Net. Seed 7."
    )


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"tied": False}, "not all tied to the test films"),
        ({"masks_of_training": 9}, "9 of 1008 masks are those of training films: by the mask alone distances"),
    ],
)
def test_of_images_it_says_what_their_masks_are(report, found, says):
    report |= {"kind": "images", "step": None}
    assert says not in render_page(report, b"sheet", {})
    report["synthetic"] |= found
    for text in (render_page(report, b"sheet", {}), render_markdown(report)):
        assert text.count(says) == 1


def test_the_example_is_a_report(report):
    jsonschema.validate(report, SCHEMA)


def test_every_measure_is_there_with_its_meaning_and_its_caution(page):
    for section in SECTIONS:
        assert section.title in page
        assert escape(section.caution) in page
        assert f"Figure of {section.key}." in page
        for measure in section.measures:
            assert (escape(measure.title) in page) == ("inception" not in measure.key)
    assert page.count("<b>Limits:</b>") == len(SECTIONS)
    interval = '<span class="interval">[0.600, 0.800]</span>'
    assert f"floor (real, other patient of the same tissue): 0.250 {interval}" in page
    assert "it cannot tell" in page
    assert "<td>40</td></tr>" in page
    assert "<td>20</td></tr>" not in page  # n counts films, not patients.
    assert "not computed: needs 3 patients or more, found 1" in page
    assert "FAIL: pixels: 3 copies" in page
    assert "Pass: no copies." in page
    assert "Never for diagnosis" in page


def test_the_page_needs_no_other_file(page):
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 1 + len(SECTIONS)
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_the_page_is_well_formed_and_escapes_what_it_is_given(page):
    class Balance(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open = []

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert "runs/&lt;train-gan&gt;/00001" in page


def test_a_section_that_was_left_out_is_not_there(report):
    del report["measures"]["distribution"]
    assert "Are grey levels and texture" not in render_page(report, b"sheet", {})
    assert "Are grey levels and texture" not in render_markdown(report)


def test_markdown(report):
    text = render_markdown(report)
    for section in SECTIONS:
        assert f"## {section.title}\n" in text
    assert (
        "| SSIM with the real film of the same mask | 0.713 [0.600, 0.800] | floor (real, other patient of the same tissue): "
        in text
    )
    assert "**FAIL: pixels: 3 copies.** Pass: no copies." in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {5}
    assert {line.split(" | ")[-1] for line in rows} == {"n |", "--- |", "40 |", " |"}


def test_the_headlines_exist(report):
    keys = {section.key: {measure.key for measure in section.measures} for section in SECTIONS}
    assert all(set(names) <= keys[section] for section, names in HEADLINES.items())
    lines = list(in_words(report))
    assert len(lines) == sum(map(len, HEADLINES.values())) + 1
    assert lines[-1] == "memorisation   FAIL: pixels: 3 copies"
    interval = "0.713 [0.600, 0.800]"
    assert f"obedience      dice_dense                 {interval}   ceiling {interval}   control {interval}" in lines
    card = render_card(report)
    assert card.startswith("## Measured\n\n1008 synthetic images of 64 x 64 pixels")
    assert "| obedience: Breast: Dice | 0.713 " in card
    assert card.endswith("\n\nMemorisation: **FAIL: pixels: 3 copies**. Pass: no copies.")


def test_format_estimate():
    assert format_estimate(ESTIMATE) == "0.713 [0.600, 0.800]"
    assert format_estimate(ESTIMATE | {"high": 278648.5}) == "0.713 [0.600, 2.79e+05]"
    assert format_estimate({"value": -1e-9, "low": -0.0004, "high": 0.1}) == "0.000 [-0.000, 0.100]"
    assert format_estimate(MISSING) == "not computed: needs 3 patients or more, found 1"
