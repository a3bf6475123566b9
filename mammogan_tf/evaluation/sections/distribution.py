"""Do grey levels and texture match those of real films?"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from mammogan_tf.errors import DataError
from mammogan_tf.evaluation import figures
from mammogan_tf.evaluation.estimates import (
    bootstrap_auc,
    bootstrap_two_samples,
    computed,
    jackknife_patients,
    jackknife_sets,
)
from mammogan_tf.evaluation.evidence import Evidence, RealFilms, SyntheticFilms
from mammogan_tf.evaluation.sections.section import Measure, Measures, Picture, Section
from mammogan_tf.evaluation.spaces import SPACES
from mammogan_tf.metrics.distribution import frechet_distance, kid
from mammogan_tf.metrics.features import FAINTEST, power_spectrum
from mammogan_tf.metrics.intervals import Estimate
from mammogan_tf.metrics.two_sample import TwoSampleTest, classifier_auc

__all__ = ["DISTRIBUTION"]

SETS = 10
"""Sets of synthetic images, of as many as there are unseen films, over which a distance is averaged."""

EASIEST = 10
FOLDS = 5

ROUNDING = 1e-6
"""Frechet distance of scaled features up to which two sets are one."""

Distance = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], float]
"""A distance of two sets of features, given the patients of either."""


def _fid(first: np.ndarray, second: np.ndarray, *patients: np.ndarray) -> float:
    """Biased by the number of films, which both sides of a comparison share, and by how alike films of a patient are."""
    return frechet_distance(first, second)


def _compute(evidence: Evidence) -> dict[str, Estimate]:
    films = evidence.train, evidence.real, evidence.synthetic
    spectra = [np.array([power_spectrum(image) for image in part.images]) for part in films]
    report = {
        "fine_texture": _fine_texture(evidence, *spectra),
        "spectrum_deviation": computed(partial(_spectrum_deviation, evidence, *spectra)),
    }
    for space in evidence.spaces:
        report[f"kid_{space}"] = computed(partial(_kid, evidence, space))
        report[f"floor_over_fid_{space}"] = computed(partial(_floor_over_fid, evidence, space))
        report[f"classifier_auc_{space}"] = computed(partial(_classifier, evidence, space))
    report["radiomics_frechet"] = computed(partial(_radiomics, evidence))
    return report


def _fine_texture(evidence: Evidence, *spectra: np.ndarray) -> Estimate:
    """Power in the upper half of the spectrum, synthetic over unseen films; the floor: unseen over training films."""
    train, real, made = (spectrum[:, -(spectrum.shape[1] // 2) :].mean(axis=1) for spectrum in spectra)

    def ratio(first: np.ndarray, second: np.ndarray) -> float:
        return float(first.mean() / second.mean()) if second.any() else float("nan")

    real_patients, seed = evidence.real.patients, evidence.seed
    value = bootstrap_two_samples(made, real, evidence.synthetic.patients, real_patients, ratio, seed)
    return value | {"floor": bootstrap_two_samples(real, train, real_patients, evidence.train.patients, ratio, seed)}


def _spectrum_deviation(evidence: Evidence, *spectra: np.ndarray) -> Estimate:
    return _distances(evidence, spectra, _decibels)


def _decibels(first: np.ndarray, second: np.ndarray, *patients: np.ndarray) -> float:
    """Root mean square, over frequencies, of the ratio of two mean power spectra in decibels.

    Args:
        first: spectra [N, R]; second: [M, R].
    """
    ratio = 10 * np.log10((first.mean(axis=0) + FAINTEST) / (second.mean(axis=0) + FAINTEST))
    return float(np.sqrt(np.mean(ratio**2)))


LIMITS: dict[Distance, tuple[float, float]] = {kid: (-np.inf, np.inf), _fid: (0, np.inf), _decibels: (0, np.inf)}
"""What a distance can be: an unbiased one also falls below 0."""

Rows = Sequence[np.ndarray]
"""Features, or spectra, of training films, unseen films and synthetic images."""


def _to_synthetic(evidence: Evidence, rows: Rows, distance: Distance, kept: np.ndarray) -> float:
    """Mean over sets of a distance to the training films, of the patients who are kept."""
    train, _, made = rows
    known, patients = evidence.train.patients, evidence.synthetic.patients
    sets = (chosen[np.isin(patients[chosen], kept)] for chosen in evidence.synthetic.sets[:SETS])
    return float(np.mean([distance(train, made[chosen], known, patients[chosen]) for chosen in sets]))


def _to_real(evidence: Evidence, rows: Rows, distance: Distance, kept: np.ndarray) -> float:
    train, real, _ = rows
    chosen = np.isin(evidence.real.patients, kept)
    return distance(train, real[chosen], evidence.train.patients, evidence.real.patients[chosen])


def _distances(evidence: Evidence, rows: Rows, distance: Distance) -> Estimate:
    """Training films are the reference of both: unseen films give the floor, and both sets share their anatomy."""
    evidence.require_comparable(SETS)
    limits = LIMITS[distance]
    value = jackknife_sets(
        partial(_to_synthetic, evidence, rows, distance), evidence.synthetic.patients_of_sets(SETS), limits
    )
    return value | {
        "floor": jackknife_patients(partial(_to_real, evidence, rows, distance), evidence.real.patients, limits)
    }


def _kid(evidence: Evidence, space: str) -> Estimate:
    return _distances(evidence, evidence.features(space), kid)


def _floor_over_fid(evidence: Evidence, space: str) -> Estimate:
    """Leaves out each patient of the unseen films, with any images of the patient: the floor depends on all of them."""
    _require_enough(evidence, space)

    def ratio(kept: np.ndarray) -> float:
        floor, fid = (to(evidence, evidence.features(space), _fid, kept) for to in (_to_real, _to_synthetic))
        if fid <= ROUNDING:
            raise DataError("the FID is 0: the images have the features of the training films")
        return floor / fid

    return jackknife_patients(ratio, evidence.real.patients, LIMITS[_fid])


def _radiomics(evidence: Evidence) -> Estimate:
    _require_enough(evidence, "texture")
    return _distances(evidence, evidence.features("texture"), _fid)


def _require_enough(evidence: Evidence, space: str) -> None:
    """A covariance needs more films than features, and equal numbers on both sides are comparable alone."""
    train, real, _ = evidence.features(space)
    features, smallest = train.shape[1], min(map(len, (train, real, evidence.synthetic.sets[0])))
    if smallest <= features:
        raise DataError(f"needs more than {features} films or images, as many as it has features, found {smallest}")
    evidence.require_comparable(SETS)


def _test(evidence: Evidence, space: str) -> TwoSampleTest:
    """Unseen films against synthetic images."""
    _, real, made = evidence.features(space)
    return classifier_auc(real, made, evidence.real.patients, evidence.synthetic.patients, FOLDS, evidence.seed)


def _classifier(evidence: Evidence, space: str) -> Estimate:
    _require_folds(evidence)
    train, real, _ = evidence.features(space)
    patients, seed = (evidence.train.patients, evidence.real.patients), evidence.seed
    floor = classifier_auc(train, real, *patients, FOLDS, seed)
    value = _auc(_test(evidence, space), patients[1], evidence.synthetic.patients, seed)
    return value | {"floor": _auc(floor, *patients, seed)}


def _require_folds(evidence: Evidence) -> None:
    """Each fold needs a patient of either side."""
    patients = {
        "test films": evidence.real.patients,
        "training films": evidence.train.patients,
        "synthetic images": evidence.synthetic.patients,
    }
    for name, side in patients.items():
        if (count := len(np.unique(side))) < FOLDS:
            raise DataError(f"needs {name} of {FOLDS} patients or more, found {count}")


def _auc(test: TwoSampleTest, patients_real: np.ndarray, patients_synthetic: np.ndarray, seed: int) -> Estimate:
    """The interval is that of the patients who are tested; the classifiers stay as they are."""
    same_fold = test.folds_real[:, None] == test.folds_synthetic
    scores = test.scores_real, test.scores_synthetic
    return bootstrap_auc(*scores, patients_real, patients_synthetic, same_fold, seed)


def _draw(evidence: Evidence, measures: Measures) -> list[Picture]:
    real, synthetic = evidence.real.images, evidence.synthetic.images
    pictures = [
        Picture(
            "spectra",
            figures.spectra(real, synthetic),
            "Radially averaged power spectrum: median and the middle 80 % of images. Synthetic below real on the right "
            "means missing fine texture, a peak means a grid. With few patients the bands are ragged.",
        ),
        Picture(
            "grey_levels",
            figures.histograms(
                {"real": _inside(evidence.real), "synthetic": _inside(evidence.synthetic)}, "grey level"
            ),
            "Grey levels inside the breast. They show exposure and the share of dense tissue, not where anything is.",
        ),
    ]
    if "value" in measures["classifier_auc_texture"]:
        test = _test(evidence, "texture")
        fold_median = np.array([np.median(test.scores_real[test.folds_real == fold]) for fold in range(FOLDS)])
        easiest = np.argsort(fold_median[test.folds_synthetic] - test.scores_synthetic, kind="stable")[:EASIEST]
        pictures.append(
            Picture(
                "easiest",
                figures.gallery({"synthetic": synthetic[easiest]}, ["" for _ in easiest]),
                "The synthetic images that the classifier of texture features recognised most easily: the worst ones, not "
                "examples. What it saw may be too faint for the eye.",
            )
        )
    return pictures


def _inside(films: RealFilms | SyntheticFilms) -> np.ndarray:
    """Grey levels where the masks show tissue; without masks, of all that is not black."""
    return films.images[(films.images if films.masks is None else films.masks) > 0]


def _of_space(space: str, name: str) -> tuple[Measure, ...]:
    return (
        Measure(
            f"kid_{space}",
            f"KID, {name}",
            "0 is expected of real films of other patients; near the floor is good",
            floor="unseen real films",
        ),
        Measure(
            f"floor_over_fid_{space}",
            f"Floor / FID, {name}",
            "1: as close as real films; a perfect generator has some 1.2",
        ),
        Measure(
            f"classifier_auc_{space}",
            f"Real against synthetic, {name}: AUC",
            "0.5: indistinguishable, 1: always distinguished",
            floor="training against unseen real films",
        ),
    )


DISTRIBUTION = Section(
    key="distribution",
    title="Do grey levels and texture match those of real films?",
    meaning="Distances between the features of synthetic images and of training films: the kernel distance (KID, in which no "
    "pair within a set is of one patient), and the floor divided by the Frechet distance (FID). The AUC is that of a linear "
    "classifier of synthetic images against unseen films, trained on other patients. The floor is the same measure for the "
    "unseen films, whose masks the synthetic images share. Features are handcrafted (40: grey levels, co-occurrence, local "
    "patterns, spectrum, wavelets), those of the evaluation U-Net's lowest level, or those of Inception-v3, a network for "
    "photographs. Distances are means over sets of one synthetic image for each film, so that both sides have equal "
    "numbers. The deviation of the power spectrum is the root mean square, over frequencies, of the ratio, in "
    "decibels, of the mean spectra of images and training films.",
    caution="Few films give wide intervals. Values below the floor hint at copied training films. The two films of a patient "
    "are more alike than two images of that patient's masks need to be, and so cover less: a perfect generator has a floor / "
    "FID of some 1.2. The AUC's interval keeps the classifier as it is: with real films on both sides one interval in six "
    "excludes 0.5. A classifier may see a difference that matters to nobody, such as how the generator rounds the darkest grey. "
    "Where images come without their masks, those made from masks of test films lower its AUC. Texture features do not see "
    "whether anatomy makes sense, and photographs are not mammograms.",
    measures=(
        Measure(
            "fine_texture",
            "Power of the finest texture, ratio to real",
            "below 1: too smooth, above: noise or a grid",
            floor="unseen against training films",
        ),
        Measure(
            "spectrum_deviation",
            "Power spectrum: deviation from the training films, dB",
            "near the floor is good",
            floor="unseen real films",
        ),
        *(measure for space, name in SPACES.items() for measure in _of_space(space, name)),
        Measure(
            "radiomics_frechet",
            "Radiomics Frechet distance",
            "near the floor is good; other features do not compare",
            floor="unseen real films",
        ),
    ),
    compute=_compute,
    draw=_draw,
)
