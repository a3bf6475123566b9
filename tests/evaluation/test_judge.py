import numpy as np
import pytest
from skimage.filters import gaussian

from mammogan_tf.errors import DataError
from mammogan_tf.evaluation.judge import UnseenFilms, judge, synthesise
from mammogan_tf.evaluation.measures import SECTIONS

SIZE = 32
GREY = np.array([0.0, 0.3, 0.5, 0.7, 0.9])


def label_map(patient: int) -> np.ndarray:
    """Half an ellipse with muscle, a dense patch and, for one patient in two, a lesion; every patient's is her own."""
    random = np.random.default_rng(patient)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    middle, reach = random.uniform(12, 20), random.uniform(16, 28)
    result = ((rows - middle) ** 2 / 12**2 + columns**2 / reach**2 < 1).astype(np.uint8)
    result[(result > 0) & (abs(rows - middle - 2) < 5) & (abs(columns - reach / 2) < 4)] = 2
    result[(rows + columns) < random.uniform(6, 12)] = 3
    if patient % 2:
        result[(rows - middle - 2) ** 2 + (columns - reach / 2) ** 2 < 6] = 4
    return result


def render(seed: int, mask: np.ndarray) -> np.ndarray:
    texture = gaussian(np.random.default_rng(seed).normal(size=mask.shape), 1)
    return np.where(mask > 0, np.clip(GREY[mask] + 0.15 * texture, 0, 1), 0)


def generate(seeds: np.ndarray, masks: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.array([render(seed, mask) for seed, mask in zip(seeds, masks, strict=True)])


def segment(images: np.ndarray) -> np.ndarray:
    return np.abs(images[..., None] - GREY).argmin(axis=-1).astype(np.uint8)


def made(films: UnseenFilms, generator=generate) -> np.ndarray:
    return synthesise(films, generator, per_mask=3)


@pytest.fixture(scope="module")
def films() -> UnseenFilms:
    patients = np.repeat(np.arange(20), 2)
    masks = np.array([label_map(int(patient)) for patient in patients])
    return UnseenFilms(
        images=generate(1000 + np.arange(40), masks, patients),
        masks=masks,
        labels=patients % 3,
        patients=patients.astype(str),
        sides=np.array(["left", "right"] * 20),
        tissues=np.array(list("FFGGDD") * 7)[:40],
    )


@pytest.fixture(scope="module")
def train_images() -> np.ndarray:
    masks = np.array([label_map(patient) for patient in range(100, 160)])
    return generate(5000 + np.arange(60), masks, masks)


@pytest.fixture(scope="module")
def faithful(films, train_images) -> dict:
    return judge(films, made(films), train_images, segment)


def values(report: dict) -> dict[str, float]:
    return {key: estimate["value"] for section in report.values() for key, estimate in section.items()}


def test_every_number_has_interval_and_reference(faithful):
    assert {s.key: {m.key for m in s.measures} for s in SECTIONS} == {s: set(rows) for s, rows in faithful.items()}
    for section in faithful.values():
        for key, estimate in section.items():
            assert estimate["low"] <= estimate["value"] <= estimate["high"], key
            assert estimate["n"] > 0
            assert estimate["patients"] <= 20
    assert set(faithful["obedience"]["dice_breast"]) >= {"ceiling", "control"}
    assert all("floor" in faithful["diversity"][key] for key in ("ssim_across_masks", "ssim_same_mask"))


def test_a_faithful_generator_reaches_the_references(faithful):
    found = values(faithful)
    for region in ("breast", "pectoral", "dense", "lesion"):
        assert found[f"dice_{region}_to_ceiling"] == pytest.approx(1, abs=0.05)
        assert found[f"dice_{region}"] > faithful["obedience"][f"dice_{region}"]["control"]["value"] + 0.05
    assert found["ssim_across_masks_to_real"] == pytest.approx(1, abs=0.05)
    assert found["ssim_own_film"] > faithful["similarity"]["ssim_own_film"]["floor"]["value"]
    assert found["floor_over_fid_texture"] == pytest.approx(1, abs=0.25)
    assert found["neighbour_ratio"] == pytest.approx(1, abs=0.05)


def test_lesions_are_judged_where_they_are_asked_for(faithful):
    assert faithful["obedience"]["dice_breast"]["n"] == 40
    assert faithful["obedience"]["dice_lesion"]["n"] == 20


def test_black_images(films, train_images):
    # black images: nothing is found, so Dice is 0 wherever a region was asked for; and all are alike
    black = np.zeros((40, 2, SIZE, SIZE))
    report = judge(films, black, train_images, segment)
    assert report["obedience"]["dice_dense"]["value"] == 0
    assert report["diversity"]["ssim_same_mask"]["value"] == pytest.approx(1)


def test_control_blurred(films, train_images, faithful):
    blurred = gaussian(made(films), sigma=(0, 0, 1, 1))
    found, sharp = values(judge(films, blurred, train_images, segment)), values(faithful)
    assert found["kid_texture"] > 10 * abs(sharp["kid_texture"])
    assert found["floor_over_fid_texture"] < 0.5 * sharp["floor_over_fid_texture"]
    assert found["neighbour_ratio"] < sharp["neighbour_ratio"]


def test_control_noisy(films, train_images, faithful):
    synthetic = made(films)
    noisy = np.clip(synthetic + np.random.default_rng(0).normal(0, 0.1, synthetic.shape), 0, 1)
    found, clean = values(judge(films, noisy, train_images, segment)), values(faithful)
    assert found["ssim_own_film"] < clean["ssim_own_film"]
    assert found["kid_texture"] > 10 * abs(clean["kid_texture"])


def test_control_masks_ignored(films, train_images, faithful):
    def wrong_mask(seeds, masks, labels):
        return generate(seeds, np.array([label_map(200 + int(seed) % 50) for seed in seeds]), labels)

    obedience = judge(films, made(films, wrong_mask), train_images, segment)["obedience"]
    for region in ("breast", "pectoral", "dense"):
        estimate = obedience[f"dice_{region}"]
        assert estimate["value"] < faithful["obedience"][f"dice_{region}"]["low"]
        assert estimate["value"] == pytest.approx(estimate["control"]["value"], abs=0.1)


def test_control_one_image_repeated(films, train_images):
    def collapsed(seeds, masks, labels):
        return generate(np.zeros_like(seeds), np.repeat(films.masks[:1], len(seeds), axis=0), labels)

    found = values(judge(films, made(films, collapsed), train_images, segment))
    assert found["ssim_across_masks"] == pytest.approx(1)
    assert found["ssim_across_masks_to_real"] > 1.5


def test_control_training_films_handed_out(films, train_images):
    def copy(seeds, masks, labels):
        return train_images[seeds % len(train_images)]

    memorisation = judge(films, made(films, copy), train_images, segment)["memorisation"]
    assert memorisation["neighbour_ratio"]["high"] < 0.1


def test_what_cannot_be_computed_is_marked(films, train_images):
    few = UnseenFilms(
        films.images[:8], films.masks[:8], films.labels[:8], films.patients[:8], np.full(8, ""), np.full(8, "")
    )
    report = judge(few, made(few), train_images, segment)
    assert "31 features" in report["distribution"]["floor_over_fid_texture"]["not computed"]
    assert "not computed" in report["similarity"]["ssim_left_right"]
    assert "not computed" in report["similarity"]["ssim_own_film"]["floor"]
    assert "2" in report["obedience"]["dice_lesion"]["not computed"]  # 2 patients with a lesion
    assert "value" in report["obedience"]["dice_breast"]


def test_a_judge_that_fails_on_real_films_gives_no_share(films, train_images):
    obedience = judge(films, made(films), train_images, lambda images: np.ones(images.shape, np.uint8))["obedience"]
    assert obedience["dice_dense"]["ceiling"]["value"] == 0
    assert obedience["dice_dense_to_ceiling"] == {
        "not computed": "the segmenter that judges reaches 0.00 on real films"
    }


def test_synthesise_orders_images_by_film_and_repeats_with_the_seed(films):
    def mask_mean(seeds, masks, labels):
        assert len(set(seeds.tolist())) == len(seeds)
        return np.broadcast_to((labels + seeds / 2**40)[:, None, None], masks.shape)

    seen = []
    images = synthesise(films, mask_mean, 2, seed=3, progress=lambda *step: seen.append(step))
    assert images.shape == (40, 2, SIZE, SIZE)
    assert np.floor(images[:, :, 0, 0]).tolist() == np.repeat(films.labels, 2).reshape(40, 2).tolist()
    assert (images == synthesise(films, mask_mean, 2, seed=3)).all()
    assert seen[-1] == (80, 80)


def test_bad_arrays_are_refused(films, train_images):
    with pytest.raises(DataError, match="3 patients or more, received: 1"):
        UnseenFilms(*(getattr(films, name)[:2] for name in UnseenFilms.__dataclass_fields__))
    with pytest.raises(DataError, match="2 or more"):
        judge(films, np.zeros((40, 1, SIZE, SIZE)), train_images, segment)
