"""Each measure moves the right way: real against real, and what is done to real images on purpose.

Images are textures within drawn breasts of random anatomy. ``python tests/metrics/test_metric_controls.py`` prints the
table of ``docs/metrics.md``.
"""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mammogan_tf.metrics.detection import free_response
from mammogan_tf.metrics.distribution import (
    frechet_distance,
    kid,
    kid_of_subsets,
    manifolds,
    radiomics_frechet_distance,
    standardise,
)
from mammogan_tf.metrics.features import radiomics_features, spectrum_ratio
from mammogan_tf.metrics.lesions import control_contrast, lesion_contrast
from mammogan_tf.metrics.memorisation import closeness, membership_auc, nearest, verdict
from mammogan_tf.metrics.segmentation import REGIONS, dice, hd95, iou, precision, sensitivity
from mammogan_tf.metrics.similarity import ms_ssim, pairwise_ssim, sample_pairs, ssim
from mammogan_tf.metrics.two_sample import auc, classifier_auc

COUNT, SIZE = 60, 64
PATIENTS = np.arange(COUNT)


def anatomy(seed: int) -> np.ndarray:
    """Label maps uint8 [COUNT, SIZE, SIZE]: a breast with a dense part and a lesion, and some pectoral muscle."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    maps = np.zeros((COUNT, SIZE, SIZE), np.uint8)
    for label_map in maps:
        centre, height, width = random.uniform(28, 36), random.uniform(22, 28), random.uniform(35, 55)
        far = np.hypot((rows - centre) / height, columns / width)
        label_map[far < 1] = 1
        label_map[np.hypot((rows - centre) / height, (columns - width / 3) / width) < 0.45] = 2
        label_map[(far < 1) & (rows + columns < random.uniform(18, 30))] = 3
        lesion = centre + random.uniform(-9, 9), width * random.uniform(0.25, 0.6)
        label_map[np.hypot(rows - lesion[0], columns - lesion[1]) < random.uniform(2.5, 4.5)] = 4
    return maps


def films(maps: np.ndarray, seed: int) -> np.ndarray:
    """Real images of these anatomies: float [N, SIZE, SIZE] in [0, 1]."""
    random = np.random.default_rng(seed)
    grain = gaussian_filter(random.normal(size=maps.shape), (0, 1, 1))
    clouds = gaussian_filter(random.normal(size=maps.shape), (0, 5, 5))
    tissue = np.array([0, 0.35, 0.5, 0.75, 0.7])[maps]
    textured = tissue + 0.05 * grain / grain.std() + 0.06 * clouds / clouds.std()
    return np.clip(textured, 0.05, 1) * (maps > 0)


def blurred(images: np.ndarray) -> np.ndarray:
    return gaussian_filter(images, (0, 1, 1))


def noisy(images: np.ndarray) -> np.ndarray:
    return np.clip(images + np.random.default_rng(9).normal(0, 0.08, images.shape), 0, 1)


def shuffled(images: np.ndarray) -> np.ndarray:
    """The 8 x 8 patches of each image in another order: the same grey levels, no anatomy."""
    patches = images.reshape(len(images), 8, 8, 8, 8).transpose(0, 1, 3, 2, 4).reshape(len(images), 64, 8, 8)
    patches = patches[:, np.random.default_rng(9).permutation(64)]
    return patches.reshape(len(images), 8, 8, 8, 8).transpose(0, 1, 3, 2, 4).reshape(images.shape)


def one_repeated(images: np.ndarray) -> np.ndarray:
    return np.repeat(images[:1], len(images), axis=0)


DEGRADED = (blurred, noisy, shuffled, one_repeated)


@pytest.fixture(scope="module")
def maps() -> np.ndarray:
    return anatomy(1)


@pytest.fixture(scope="module")
def train() -> np.ndarray:
    return films(anatomy(0), 10)


@pytest.fixture(scope="module")
def unseen(maps) -> np.ndarray:
    return films(maps, 11)


@pytest.fixture(scope="module")
def good(maps) -> np.ndarray:
    """What a perfect generator would make of the masks: other films of the same anatomies."""
    return films(maps, 12)


def scaled_features(sets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return dict(zip(sets, standardise(*map(radiomics_features, sets.values())), strict=True))


@pytest.fixture(scope="module")
def features(train, unseen, good) -> dict[str, np.ndarray]:
    changed = {change.__name__: change(good) for change in DEGRADED}
    return scaled_features({"train": train, "unseen": unseen, "good": good} | changed)


@pytest.mark.parametrize("change", DEGRADED, ids=lambda change: change.__name__)
@pytest.mark.parametrize("distance", [kid, frechet_distance, radiomics_frechet_distance])
def test_distances_to_real_rise(features, distance, change):
    floor = distance(features["train"], features["unseen"])
    perfect = distance(features["train"], features["good"])
    degraded = distance(features["train"], features[change.__name__])
    assert perfect < floor + 0.5 * (degraded - floor)
    assert degraded > 2 * abs(floor)


def test_kid_of_real_against_real_is_about_0(features):
    mean, deviation = kid_of_subsets(features["train"], features["unseen"], subsets=30, size=30)
    assert abs(mean) < 2 * deviation


@pytest.mark.parametrize("change", DEGRADED, ids=lambda change: change.__name__)
def test_a_classifier_sees_it(features, change):
    def told_apart(name: str) -> float:
        return classifier_auc(features["unseen"], features[name], PATIENTS, PATIENTS).auc

    assert told_apart("good") == pytest.approx(0.5, abs=0.12)
    assert told_apart(change.__name__) > 0.9


def test_manifolds(features):
    floor = manifolds(features["train"], features["unseen"])
    perfect = manifolds(features["train"], features["good"])
    for name in ("precision", "recall", "density", "coverage"):
        assert getattr(perfect, name) == pytest.approx(getattr(floor, name), abs=0.2)
    for change in DEGRADED:
        assert manifolds(features["train"], features[change.__name__]).coverage < 0.5 * floor.coverage
    for change in (blurred, noisy, shuffled):
        assert manifolds(features["train"], features[change.__name__]).precision < 0.5 * floor.precision
    assert manifolds(features["train"], features["one_repeated"]).recall == 0


@pytest.mark.parametrize("measure", [ssim, ms_ssim])
def test_similarity_to_the_own_film(unseen, good, measure):
    own = measure(unseen, good).mean()
    assert measure(unseen, unseen) == pytest.approx(np.ones(COUNT))
    for other in (np.roll(good, 1, axis=0), noisy(good), shuffled(good), one_repeated(good)):
        assert measure(unseen, other).mean() < own


def test_similarity_rewards_missing_texture(maps, unseen, good):
    """The known weakness that the report must name: the average of films is nearer to a film than another film is."""
    smooth = np.mean([films(maps, seed) for seed in range(20, 25)], axis=0)
    assert ssim(unseen, smooth).mean() > ssim(unseen, good).mean()
    assert ms_ssim(unseen, smooth).mean() > ms_ssim(unseen, good).mean()


def test_diversity_falls_when_one_image_is_repeated(unseen, good):
    pairs = sample_pairs(np.ones((COUNT, COUNT), bool), 200)
    real, perfect, repeated = (pairwise_ssim(images, pairs).mean() for images in (unseen, good, one_repeated(good)))
    assert perfect == pytest.approx(real, abs=0.05)
    assert repeated == pytest.approx(1)


def test_spectra(unseen, good):
    assert np.abs(np.log(spectrum_ratio(unseen, good))).max() < 0.5
    assert spectrum_ratio(unseen, blurred(good))[-1] < 0.1
    assert spectrum_ratio(unseen, noisy(good))[-1] > 2


@pytest.mark.parametrize("region", REGIONS)
def test_obedience_falls_when_masks_are_swapped(maps, region):
    """An ideal segmenter finds in each image the mask it was made from."""
    classes, swapped = REGIONS[region], np.roll(maps, 1, axis=0)
    for measure in (dice, iou, sensitivity, precision):
        assert np.nanmean(measure(maps, maps, classes)) == 1
        assert np.nanmean(measure(maps, swapped, classes)) < 0.95
    assert np.nanmean(hd95(maps, maps, classes)) == 0
    assert np.nanmean(hd95(maps, swapped, classes)) > 1
    if region == "lesion":
        assert free_response(maps, maps).sensitivity == 1
        assert free_response(maps, swapped).sensitivity < 0.5
        assert free_response(maps, swapped).false_positives_per_image > 0.5


def test_lesions_are_where_they_were_asked_for(maps, good):
    def told_apart(images: np.ndarray) -> float:
        asked = [lesion_contrast(*pair) for pair in zip(images, maps, strict=True)]
        control = [control_contrast(*pair, pair[1]) for pair in zip(images, maps, strict=True)]
        values = (np.concatenate(contrasts) for contrasts in (control, asked))
        return auc(*(contrasts[np.isfinite(contrasts)] for contrasts in values))

    without = films(np.where(maps == 4, 2, maps), 12)
    assert told_apart(good) > 0.9
    assert told_apart(without) < told_apart(good) - 0.15
    assert told_apart(np.roll(good, 1, axis=0)) < told_apart(good) - 0.15


class TestMemorisation:
    """Copies must fail; other films of new anatomies must pass."""

    @staticmethod
    def passes(made: np.ndarray, train: np.ndarray, unseen: np.ndarray) -> bool:
        pixels = closeness(nearest(made, train)[0], nearest(unseen, train)[0])
        reference, *others = standardise(*map(radiomics_features, (train, unseen, made)))
        features = closeness(*(nearest(other, reference)[0] for other in reversed(others)))
        return verdict({"pixels": pixels, "features": features}).passed

    def test_new_images_pass(self, train, unseen, good):
        assert self.passes(good, train, unseen)

    def test_copies_fail(self, train, unseen):
        assert not self.passes(train, train, unseen)

    def test_slightly_changed_copies_fail(self, train, unseen):
        faint = np.clip(1.03 * train + np.random.default_rng(0).normal(0, 0.01, train.shape), 0, 1)
        assert not self.passes(faint, train, unseen)

    def test_one_copy_among_many_fails(self, train, unseen, good):
        assert not self.passes(np.concatenate([good[1:], train[:1]]), train, unseen)

    def test_mirrored_copies_show_in_the_texture_only(self, train, unseen):
        mirrored = train[:, ::-1]
        assert closeness(nearest(mirrored, train)[0], nearest(unseen, train)[0]).copies == 0
        assert not self.passes(mirrored, train, unseen)

    def test_a_critic_that_knows_its_films(self, train, unseen):
        def by_heart(images: np.ndarray) -> np.ndarray:
            return -nearest(images, train)[0]

        def blind(images: np.ndarray) -> np.ndarray:
            return images.mean(axis=(1, 2))

        assert membership_auc(by_heart(train), by_heart(unseen)) == 1
        assert membership_auc(blind(train), blind(unseen)) == pytest.approx(0.5, abs=0.15)


def table() -> str:
    """The controls in Markdown: a row for each measure, a column for what was done to the images."""
    maps = anatomy(1)
    train, unseen, good = films(anatomy(0), 10), films(maps, 11), films(maps, 12)
    made = {"perfect": good} | {change.__name__: change(good) for change in DEGRADED} | {"training images": train}
    features = scaled_features({"train": train, "unseen": unseen} | made)
    to_train, features_to_train = nearest(unseen, train)[0], nearest(features["unseen"], features["train"])[0]
    pairs = sample_pairs(np.ones((COUNT, COUNT), bool), 200)
    rows: dict[str, list[float | str]] = {}
    for name, images in made.items():
        spaces = {
            "pixels": closeness(nearest(images, train)[0], to_train),
            "features": closeness(nearest(features[name], features["train"])[0], features_to_train),
        }
        near = manifolds(features["train"], features[name])
        values = {
            "KID": kid(features["train"], features[name]),
            "radiomics Frechet distance": radiomics_frechet_distance(features["train"], features[name]),
            "classifier AUC": classifier_auc(features["unseen"], features[name], PATIENTS, PATIENTS).auc,
            "precision": near.precision,
            "recall": near.recall,
            "density": near.density,
            "coverage": near.coverage,
            "SSIM with the own film": ssim(unseen, images).mean(),
            "MS-SSIM with the own film": ms_ssim(unseen, images).mean(),
            "SSIM among them": pairwise_ssim(images, pairs).mean(),
            "power ratio, finest": spectrum_ratio(unseen, images)[-1],
            "near a training image, pixels": spaces["pixels"].near,
            "near a training image, features": spaces["features"].near,
            "memorisation": "pass" if verdict(spaces).passed else "**fail**",
        }
        for measure, value in values.items():
            rows.setdefault(measure, []).append(value)
    lines = [f"| measure | {' | '.join(made).replace('_', ' ')} |", "| --- |" + " --- |" * len(made)]
    for measure, row in rows.items():
        cells = (value if isinstance(value, str) else f"{value:.3g}" for value in row)
        lines.append(f"| {measure} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
