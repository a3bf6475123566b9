import base64
import re
from html.parser import HTMLParser

import pytest

from mammogan_tf.evaluation.measures import SECTIONS
from mammogan_tf.evaluation.page import FIGURES, SHEET, format_estimate, render_page

ESTIMATE: dict = {"value": 0.71349, "low": 0.6, "high": 0.8, "n": 40, "patients": 20}
MISSING: dict = {"not computed": "needs 3 patients or more, found 1"}


@pytest.fixture
def report() -> dict:
    measures: dict = {s.key: {m.key: dict(ESTIMATE) for m in s.measures} for s in SECTIONS}
    measures["obedience"]["dice_lesion"] = MISSING | {"ceiling": MISSING}
    measures["similarity"]["ssim_own_film"]["floor"] = ESTIMATE | {"value": 0.25}
    return {
        "run": "runs/<train-gan>/00001",
        "masks": "unet",
        "size": 64,
        "films": {"train": 240, "test": 48, "test_patients": 24},
        "synthetic": {"images": 480, "per_mask": 10, "seed": 0},
        "measures": measures,
    }


@pytest.fixture
def page(report) -> str:
    return render_page(report, {name: name.encode() for name in (SHEET, *(name for name, _ in FIGURES.values()))})


def test_every_measure_is_there_with_its_meaning_and_its_caution(page):
    for section in SECTIONS:
        assert section.title in page
        assert section.caution in page
        for measure in section.measures:
            assert measure.title in page
    assert page.count("When not to trust it") == len(SECTIONS)
    assert "real films: 0.250 [0.600, 0.800]" in page
    assert "not computed: needs 3 patients or more, found 1" in page
    assert "Never for diagnosis" in page


def test_the_page_needs_no_other_file(page):
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 1 + len(FIGURES)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert base64.b64decode(sources[0].partition(",")[2]) == SHEET.encode()


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


def test_format_estimate():
    assert format_estimate(ESTIMATE) == "0.713 [0.600, 0.800]"
    assert format_estimate(ESTIMATE | {"high": 278648.5}) == "0.713 [0.600, 2.79e+05]"
    assert format_estimate(MISSING) == "not computed: needs 3 patients or more, found 1"
