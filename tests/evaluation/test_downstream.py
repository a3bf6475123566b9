import dataclasses
import json

import keras
import numpy as np
import pytest

from mammogan_tf.config import LESION
from mammogan_tf.console import Console
from mammogan_tf.data.transforms import AUGMENTATIONS
from mammogan_tf.evaluation import downstream
from mammogan_tf.evaluation.downstream import Recipe, evaluate_downstream
from mammogan_tf.evaluation.evidence import synthesise
from mammogan_tf.evaluation.sections.downstream import ARMS
from mammogan_tf.metrics.segmentation import dice
from tests.toy_films import SIZE, draw_films, generate

RECIPE = Recipe(widths=(2, 4), steps=2, batch_size=4, seeds=1)
CHOSEN = {name: ARMS[name] for name in ("augmented", "pretrained")}


@pytest.fixture(scope="module")
def train():
    return draw_films(range(100, 110), 5000)


@pytest.fixture(scope="module")
def unseen():
    return draw_films(range(8), 1000)


@pytest.fixture(scope="module")
def finished(train, unseen, tmp_path_factory):
    file = tmp_path_factory.mktemp("downstream") / "downstream.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(downstream, "ARMS", CHOSEN)
        yield file, measure(train, unseen, file)


def measure(train, test, file, generator=generate, recipe=RECIPE, view="whole"):
    return evaluate_downstream(train, test, generator, view, file, recipe=recipe, console=Console(quiet=True))


def test_every_film_that_can_be_scored_is(finished, unseen):
    _, results = finished
    assert [(result.arm, result.seed) for result in results] == [("augmented", 0), ("pretrained", 0)]
    for result in results:
        np.testing.assert_array_equal(np.isfinite(result.malignant), unseen.labels != 2)
        has_lesion = (unseen.masks == LESION).any(axis=(1, 2))
        np.testing.assert_array_equal(np.isfinite(result.dice), has_lesion)


def test_what_is_finished_is_not_trained_again(finished, train, unseen, monkeypatch):
    file, results = finished
    lines = file.read_text().splitlines()
    assert len(lines) == len(results)
    killed_while_it_wrote = '\n{"key": "another"}\n{"arm": "pret'
    file.write_bytes(f"{lines[0]}{killed_while_it_wrote}".encode() + b"\xff")
    trained = []
    monkeypatch.setattr(downstream, "_classify", lambda *arguments: trained.append(arguments) or results[1].malignant)
    monkeypatch.setattr(downstream, "_segment", lambda *arguments: results[1].dice)
    again = measure(train, unseen, file)
    assert len(trained) == 1
    for before, after in zip(results, again, strict=True):
        np.testing.assert_allclose(after.malignant, before.malignant, atol=1e-6)
        np.testing.assert_allclose(after.dice, before.dice, atol=1e-6)
    assert [json.loads(line)["arm"] for line in file.read_text().splitlines()] == ["augmented", "pretrained"]


def test_results_of_another_seed_stay(finished, train, unseen, monkeypatch):
    file, results = finished
    content = file.read_text()
    monkeypatch.setattr(downstream, "_classify", lambda *arguments: results[0].malignant)
    monkeypatch.setattr(downstream, "_segment", lambda *arguments: results[0].dice)
    evaluate_downstream(train, unseen, generate, "whole", file, seed=1, recipe=RECIPE, console=Console(quiet=True))
    assert file.read_text().startswith(content)
    assert len(file.read_text().splitlines()) == 2 * len(CHOSEN)
    monkeypatch.setattr(downstream, "_classify", lambda *arguments: pytest.fail("trained twice"))
    measure(train, unseen, file)
    file.write_text(content)


@pytest.mark.parametrize("view", AUGMENTATIONS)
def test_each_arm_is_augmented_or_not_and_each_repetition_has_a_seed(train, unseen, tmp_path, monkeypatch, view):
    monkeypatch.setattr(downstream, "ARMS", ARMS)
    given, films = [], []

    def spy(recipe, pools, limits, test, seed):
        given.append((limits, seed))
        films.append(pools[0].images.tobytes())
        return np.zeros(len(test))

    monkeypatch.setattr(downstream, "_classify", spy)
    monkeypatch.setattr(downstream, "_segment", spy)
    measure(train, unseen, tmp_path / "downstream.jsonl", recipe=dataclasses.replace(RECIPE, seeds=2), view=view)
    jobs = [(arm, seed) for seed in range(2) for arm in ARMS]
    expected = [(AUGMENTATIONS[view] if arm == "augmented" else None, seed) for arm, seed in jobs]
    assert given[::2] == given[1::2] == expected
    films_of = dict(zip(jobs, films[::2], strict=True))
    assert films_of["real", 0] == films_of["real", 1]
    assert films_of["half", 0] != films_of["half", 1]


def test_other_films_views_images_or_recipes_are_other_results(finished, train, unseen, monkeypatch):
    file, results = finished
    monkeypatch.setattr(downstream, "_classify", lambda *arguments: trained.append(arguments) or results[0].malignant)
    monkeypatch.setattr(downstream, "_segment", lambda *arguments: results[0].dice)
    content = file.read_text()

    def dark(*arguments):
        return generate(*arguments) / 2

    def with_another_mask(films):
        masks = films.masks.copy()
        masks[0, 0, 0] ^= 1
        return dataclasses.replace(films, masks=masks)

    for change in (
        {"generator": dark},
        {"recipe": dataclasses.replace(RECIPE, steps=3)},
        {"view": "roi"},
        {"test": with_another_mask(unseen)},
        {"train": dataclasses.replace(train, images=train.images / 2)},
    ):
        trained = []
        measure(**{"train": train, "test": unseen, "file": file} | change)
        assert len(trained) == len(CHOSEN)
        file.write_text(content)


@pytest.mark.parametrize(
    ("arm", "sizes"),
    [("real", [10]), ("half", [15]), ("equal", [20]), ("double", [30]), ("synthetic", [20]), ("pretrained", [20, 10])],
)
def test_what_an_arm_is_trained_on(train, arm, sizes):
    rows = np.flatnonzero(train.labels != 2)
    real = downstream._pool(train, rows, train.images[rows])
    twice = downstream._pool(train, np.tile(rows, 2), np.zeros((20, SIZE, SIZE), np.float32))
    pools = downstream._pools(ARMS[arm], real, twice, seed=0)
    assert [len(pool) for pool in pools] == sizes
    synthetic = [int((pool.images == 0).all(axis=(1, 2)).sum()) for pool in pools]
    assert sum(synthetic) == round(10 * ARMS[arm].synthetic)
    for pool in pools:
        assert pool.images.shape == pool.lesions.shape
        assert pool.lesions.any(axis=(1, 2)).all()
        assert set(pool.malignant) == {0, 1}


def test_synthetic_images_are_made_from_the_films_of_benign_and_malignant_lesions(train, tmp_path, monkeypatch):
    """Not from a normal film, whatever its mask holds, and with no noise that the evaluated images were made from."""
    masks = train.masks.copy()
    assert train.labels[0] == 2
    masks[0] = LESION
    films, rows = dataclasses.replace(train, masks=masks), np.tile(np.flatnonzero(train.labels != 2), 2)
    noise, trained = [], []

    def remembers(seeds, masks, labels):
        noise.append(seeds.tolist())
        return masks / 10 + labels[:, None, None]

    monkeypatch.setattr(downstream, "ARMS", {"synthetic": ARMS["synthetic"]})
    monkeypatch.setattr(
        downstream, "_classify", lambda recipe, pools, limits, test, seed: trained.extend(pools) or test.labels
    )
    monkeypatch.setattr(downstream, "_segment", lambda recipe, pools, limits, test, seed: test.labels)
    for seed in range(2):
        file = tmp_path / f"{seed}.jsonl"
        evaluate_downstream(films, train, remembers, "whole", file, seed, RECIPE, Console(quiet=True))
        synthesise(draw_films(range(10), 0), remembers, 1, seed)  # As many images.
    assert list(map(len, noise)) == [len(rows)] * 4
    assert len(set(np.concatenate(noise).tolist())) == 4 * len(rows)
    pool = trained[0]
    expected = train.masks[rows] / 10 + train.labels[rows][:, None, None]
    assert sorted(image.tobytes() for image in pool.images) == sorted(
        image.tobytes() for image in expected.astype(np.float32)
    )
    for image, lesions, malignant in zip(*vars(pool).values(), strict=True):
        mask, label = np.rint(image % 1 * 10), int(image.min())
        assert ((mask == LESION) == lesions).all()
        assert label == malignant


@pytest.mark.parametrize("train_network", [downstream._classify, downstream._segment], ids=["classifier", "segmenter"])
def test_the_seed_of_a_repetition_is_that_of_its_network(train, unseen, train_network, monkeypatch):
    weights = []
    monkeypatch.setattr(
        downstream, "_fit", lambda network, *arguments: weights.append(network.get_weights()[0].tolist())
    )
    pool = downstream._pool(train, np.arange(4), train.images[:4])
    for seed in (0, 0, 1):
        train_network(RECIPE, [pool], None, unseen, seed)
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize("limits", [None, AUGMENTATIONS["whole"]], ids=["as they are", "augmented"])
def test_the_seed_of_a_repetition_is_that_of_order_and_changes(train, limits):
    """Where films are augmented: of the changes of one film, whose order nothing can change."""
    count = 1 if limits else len(train)
    pool = downstream._pool(train, np.arange(count), train.images[:count])
    batches = []
    for seed in (0, 0, 1):
        keras.utils.set_random_seed(7)
        (batch,) = downstream._batches(pool, RECIPE, limits, SIZE, seed).take(1)
        batches.append(batch[0].numpy().tolist())
    assert batches[0] == batches[1] != batches[2]


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["real", "pretrained"])
def test_no_arm_has_more_updates_than_another(train, unseen, arm, monkeypatch):
    fit, updates = keras.Model.fit, []

    def spy(network, *arguments, **options):
        history = fit(network, *arguments, **options)
        updates.append(int(network.optimizer.iterations.numpy()))
        return history

    monkeypatch.setattr(keras.Model, "fit", spy)
    rows = np.flatnonzero(train.labels != 2)
    real = downstream._pool(train, rows, train.images[rows])
    pools = downstream._pools(ARMS[arm], real, real + real, seed=0)
    recipe = dataclasses.replace(RECIPE, steps=6)
    downstream._segment(recipe, pools, None, unseen, seed=0)
    downstream._classify(recipe, pools, None, unseen, seed=0)
    assert updates == [6 // len(pools)] * 2 * len(pools)


@pytest.mark.slow
def test_the_networks_learn(train, unseen):
    """Where malignant films are bright everywhere, and lesions the brightest, some steps are enough."""
    bright = [
        dataclasses.replace(
            films, images=np.where(films.labels == 1, 0.5, 0.2)[:, None, None] + 0.4 * (films.masks == 4)
        )
        for films in (train, unseen)
    ]
    train, unseen = (dataclasses.replace(films, images=films.images.astype(np.float32)) for films in bright)
    rows = np.flatnonzero(train.labels != 2)
    pools = [downstream._pool(train, rows, train.images[rows])]
    recipe = Recipe(widths=(4, 8), steps=60, batch_size=8, learning_rate=1e-2)
    scores = downstream._classify(recipe, pools, None, unseen, seed=0)
    assert scores[unseen.labels == 1].min() > scores[unseen.labels == 0].max()
    assert np.nanmean(downstream._segment(recipe, pools, None, unseen, seed=0)) > 0.8


def test_without_lesions_there_is_nothing_to_train(train, unseen, tmp_path):
    clear = dataclasses.replace(train, masks=np.minimum(train.masks, 3))
    assert measure(clear, unseen, tmp_path / "downstream.jsonl") == ()
    assert not (tmp_path / "downstream.jsonl").exists()


def test_lesions_move_with_their_film(train):
    """Films that are grey where the lesion is alone."""
    lesions = np.zeros((6, SIZE, SIZE), np.uint8)
    lesions[:, 8:16, 4:20] = 1
    pool = downstream.Pool(0.5 * lesions.astype(np.float32), lesions, np.zeros(6, np.int32))
    ((images, moved, _),) = downstream._batches(pool, Recipe(batch_size=6), AUGMENTATIONS["whole"], SIZE, 0).take(1)
    seen = images.numpy()[..., 0] > 0.25
    assert dice(seen, lesions, 1).min() < 0.8
    assert dice(seen, moved.numpy(), 1).min() > 0.9


def test_augmented_windows_stay_full_of_film(train):
    """Where a training's windows have a margin, the films that take its place are mirrored: no black comes in."""
    rows = np.flatnonzero(train.labels != 2)
    pool = downstream._pool(train, rows, np.full((len(rows), SIZE, SIZE), 0.5, np.float32))
    recipe, limits = Recipe(batch_size=len(rows)), AUGMENTATIONS["roi"]
    whole, window = (downstream._with_margin(pool, view) for view in ("whole", "roi"))
    assert whole.images.shape[1:] == (SIZE, SIZE)
    (black,), (full,) = (downstream._batches(each, recipe, limits, SIZE, 0).take(1) for each in (whole, window))
    assert (black[0].numpy() == 0).mean() > 0.05
    assert (full[0].numpy() == 0).mean() < 0.005
