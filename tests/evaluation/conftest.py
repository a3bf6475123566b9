import pytest

from mammogan_tf.evaluation.evidence import Evidence
from tests.toy_films import PATIENTS, draw_films, evidence_of


@pytest.fixture(scope="session")
def evidence() -> Evidence:
    """Of a faithful generator, with unseen films of ``PATIENTS`` patients."""
    return evidence_of(draw_films(range(PATIENTS), 1000), draw_films(range(100, 130), 5000))
