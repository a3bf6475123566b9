import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.config import GANConfig, preset
from mammogan_tf.data.film_set import load_films
from mammogan_tf.data.mias import load_mias
from mammogan_tf.errors import ModelError
from mammogan_tf.training.gan import build_wgan_gp
from mammogan_tf.training.monitor import COLLAPSE_THRESHOLD, ValidationMonitor
from mammogan_tf.training.strategy import set_up_device


def no_warning(step: int, text: str) -> None:
    pytest.fail(f"step {step}: {text}")


@pytest.fixture(scope="module")
def films(phantom_root):
    return load_films(load_mias(phantom_root), 16).cropped()


@pytest.fixture
def model():
    set_up_device("float32", 0, deterministic=False)
    return build_wgan_gp(preset(GANConfig, "tiny"))


def test_it_reports_what_history_keeps_and_draws_nothing_from_the_training(model, films):
    before = model.random.state.numpy()
    monitor = ValidationMonitor(model, films, films, 4, no_warning)
    first, second = monitor(2), monitor(4)
    assert set(first) == {"validation_kid", "validation_wasserstein", "diversity"}
    assert first == second
    np.testing.assert_array_equal(model.random.state.numpy(), before)


def test_films_that_are_no_films_end_the_training(model, films):
    monitor = ValidationMonitor(model, films, films, 4, no_warning)
    for weight in model.ema_generator.weights:
        weight.assign(np.full(weight.shape, np.nan))
    with pytest.raises(ModelError, match="step 2: expected finite films, received: others; start another run"):
        monitor(2)


def test_a_critic_that_scores_brightness_gives_the_difference_of_means(model, films):
    monitor = ValidationMonitor(model, films, films, 4, no_warning)
    model.emphasis.gain = 0
    model.critic = lambda inputs, training: tf.reduce_mean(inputs["image"], axis=(1, 2, 3))[:, None]
    real = films.images.mean() / 255 * 2 - 1
    fake = monitor._synthetic(0).mean() * 2 - 1
    assert monitor(2)["validation_wasserstein"] == pytest.approx(real - fake, abs=1e-5)


def test_networks_see_all_films_in_parts_no_larger_than_a_batch(model, films):
    monitor = ValidationMonitor(model, films, films, 5, no_warning)
    seen, critic = [], model.critic

    def score(inputs, training):
        seen.append({name: len(value) for name, value in inputs.items()})
        return critic(inputs, training=training)

    model.critic = score
    monitor(2)
    assert max(part["image"] for part in seen) <= 5
    assert sum(part["image"] for part in seen) == 2 * len(films)  # Real and synthetic.
    assert all(len(set(part.values())) == 1 for part in seen)


def test_four_films_of_each_mask_and_label_are_drawn_from_noise_of_their_own(model, films):
    monitor = ValidationMonitor(model, films, films, 5, no_warning)
    seen, averaged = [], model.ema_generator

    def draw(inputs, training):
        seen.append(inputs)
        return averaged(inputs, training=training)

    model.ema_generator = draw
    monitor(2)
    noise, mask, label = (np.concatenate([part[name] for part in seen]) for name in ("noise", "mask", "label"))
    assert len(np.unique(noise, axis=0)) == len(noise) == 4 * len(films)
    np.testing.assert_array_equal(mask.argmax(axis=-1), np.tile(films.label_maps, (4, 1, 1)))
    np.testing.assert_array_equal(label, np.tile(films.labels, 4))
    assert len(np.unique(label)) > 1


def test_films_of_one_mask_that_differ_as_the_two_breasts_do_have_diversity_1(model, films):
    assert films.patients[::2] == films.patients[1::2]
    monitor = ValidationMonitor(model, films, films, len(films), no_warning)
    other_breast = films.images.reshape(-1, 2, *films.images.shape[1:])[:, ::-1].reshape(films.images.shape)
    draws = iter([films.images, other_breast, films.images, films.images])
    model.ema_generator = lambda inputs, training: next(draws)[..., None] / 127.5 - 1
    assert monitor(2)["diversity"] == pytest.approx(1, abs=1e-4)


def test_it_warns_once_where_noise_changes_nothing(model, films):
    warnings = {}
    monitor = ValidationMonitor(model, films, films, 4, warnings.__setitem__)
    model.ema_generator = lambda inputs, training: inputs["mask"][..., 1:2]
    for step in (2, 4, 6, 8):
        assert monitor(step)["diversity"] == pytest.approx(0, abs=1e-6)
    assert [*warnings] == [6]
    assert warnings[6].startswith("films of one mask differ 0.00 times")
    assert f"expected {COLLAPSE_THRESHOLD:.2f} or more" in warnings[6]


def test_diversity_that_rose_again_was_no_collapse(model, films):
    warnings, before = {}, (0.30, 0.28, 0.31, 0.32, 0.40, 0.30, 0.29)
    monitor = ValidationMonitor(model, films, films, 4, warnings.__setitem__)
    monitor.recall({"step": step, "diversity": low} for step, low in enumerate(before))
    model.ema_generator = lambda inputs, training: inputs["mask"][..., 1:2]
    monitor(7)
    assert [*warnings] == [7], "the first collapse there is"


@pytest.mark.parametrize(
    ("before", "warns"), [([0.1, 0.1], True), ([0.1, math.nan, 0.1], True), ([0.1, 0.1, 0.1], False)]
)
def test_a_resumed_run_warns_as_one_that_was_never_broken_off(model, films, before, warns):
    warnings = {}
    monitor = ValidationMonitor(model, films, films, 4, warnings.__setitem__)
    monitor.recall({"step": step, "diversity": low} for step, low in enumerate(before))
    model.ema_generator = lambda inputs, training: inputs["mask"][..., 1:2]
    monitor(8)
    assert [*warnings] == [8] * warns


def one_film_a_patient(films):
    return dataclasses.replace(films, patients=tuple(map(str, range(len(films)))))


def two_windows_of_a_film(films):
    return dataclasses.replace(films, ids=films.patients)


@pytest.mark.parametrize("changed", [one_film_a_patient, two_windows_of_a_film])
def test_diversity_is_left_out_where_no_patient_has_two_films(model, films, changed):
    alone = changed(films)
    monitor = ValidationMonitor(model, films, alone, 4, no_warning)
    assert not monitor.measures_diversity
    assert set(monitor(2)) == {
        "validation_kid",
        "validation_wasserstein",
    }


def test_the_kid_is_low_for_films_like_those_of_the_training_and_not_for_those_of_the_validation(model, films):
    darker = dataclasses.replace(films, images=films.images // 3)
    monitor, kid = ValidationMonitor(model, films, darker, len(films), no_warning), {}
    for name, images in (("training", films.images), ("validation", darker.images)):
        model.ema_generator = lambda inputs, training, images=images: images[..., None] / 127.5 - 1
        kid[name] = monitor(2)["validation_kid"]
    assert abs(kid["training"]) < 0.1 * kid["validation"]
