"""A step of the U-Net in training, its validation, and how it is built."""

import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.config import LESION, UNetConfig, preset
from mammogan_tf.losses import cross_entropy, dice_loss, focal_tversky
from mammogan_tf.training.segmentation import build_segmentation_trainer
from mammogan_tf.training.segmentation_trainer import SegmentationTrainer
from mammogan_tf.training.strategy import set_up_device

SIZE = 16


def build(steps_per_epoch=1, precision="float32", **changes) -> SegmentationTrainer:
    set_up_device(precision, 0, deterministic=False)
    return build_segmentation_trainer(preset(UNetConfig, "tiny", changes), steps_per_epoch)


def batch(films: int, seed: int = 0) -> tuple[tf.Tensor, tf.Tensor]:
    random = np.random.default_rng(seed)
    truth = np.eye(5, dtype=np.float32)[random.integers(0, 5, (films, SIZE, SIZE))]
    return tf.constant(random.random((films, SIZE, SIZE, 1), np.float32)), tf.constant(truth)


def test_a_step_takes_the_average_towards_the_network_by_its_share():
    model = build(ema=0.75)
    model.step.assign(1000)  # The decay has risen to 0.75.
    model.ema_network.set_weights([weight + 1 for weight in model.ema_network.get_weights()])
    before = model.ema_network.get_weights()
    model.train_step(batch(4))
    assert int(model.step.numpy()) == 1001
    for was, now, trained in zip(before, model.ema_network.get_weights(), model.network.get_weights(), strict=True):
        np.testing.assert_allclose(now, 0.75 * was + 0.25 * trained, rtol=1e-5, atol=1e-6)


def test_a_step_updates_the_statistics_of_the_films():
    model = build()
    statistics = [variable for variable in model.network.variables if "moving_" in variable.path]
    before = [variable.numpy() for variable in statistics]
    model.train_step(batch(4))
    assert statistics
    assert all((variable.numpy() != was).any() for variable, was in zip(statistics, before, strict=True))


@pytest.mark.parametrize(("precision", "scale"), [("float32", 1), ("mixed_bfloat16", 1), ("mixed_float16", 2**15)])
def test_the_loss_is_scaled_in_float16(precision, scale, monkeypatch):
    model, differentiated = build(precision=precision), []
    original = tf.GradientTape.gradient

    def spy(tape, target, sources):
        differentiated.append(float(target))
        return original(tape, target, sources)

    monkeypatch.setattr(tf.GradientTape, "gradient", spy)
    model.train_step(batch(4))
    assert differentiated == [pytest.approx(scale * model.pop_metrics()["loss"])]


def test_the_averaged_network_is_validated_and_each_film_counts_alike():
    model = build()
    model.network.set_weights([weight + 1 for weight in model.network.get_weights()])
    batches = [batch(4, seed=0), batch(1, seed=1)]
    first, last = (
        float(model.loss_function(truth, model.ema_network(films, training=False))) for films, truth in batches
    )
    assert first != pytest.approx(last, rel=1e-3)
    assert model.validate(batches)["loss"] == pytest.approx((4 * first + 1 * last) / 5)


@pytest.mark.parametrize(
    ("view", "regions"), [("whole", ["breast", "pectoral", "dense"]), ("roi", ["breast", "lesion"])]
)
def test_the_dice_of_a_view_is_the_mean_of_its_regions(view, regions):
    values = build(view=view).validate([batch(4)])
    assert values["dice"] == pytest.approx(np.mean([values[f"dice_{region}"] for region in regions]))
    assert len({values[f"dice_{region}"] for region in ("breast", "pectoral", "dense", "lesion")}) == 4


def test_the_loss_is_dice_plus_cross_entropy_and_that_of_lesions_where_asked_for():
    _, truth = batch(4)
    found = tf.nn.softmax(np.random.default_rng(1).normal(size=truth.shape).astype(np.float32))
    plain = dice_loss(truth, found) + cross_entropy(truth, found)
    lesions = focal_tversky(truth[..., LESION], found[..., LESION])
    assert float(build().loss_function(truth, found)) == pytest.approx(float(plain))
    assert float(build(lesion_loss="focal-tversky").loss_function(truth, found)) == pytest.approx(
        float(plain + lesions)
    )


def test_options_reach_the_network():
    model = build(size=32, widths=(3, 5, 7), dropout=0.4, attention=True, ema=0.5)
    assert model.network.input_shape == (None, 32, 32, 1)
    names = ("down0_a_conv", "down1_a_conv", "bottom_a_conv")
    assert [model.network.get_layer(name).filters for name in names] == [3, 5, 7]
    assert model.network.get_layer("bottom_dropout").rate == 0.4
    assert model.ema == 0.5
    for network, gated in ((model.network, True), (build().network, False)):
        assert any(layer.name == "up0_attention" for layer in network.layers) == gated


def test_the_learning_rate_falls_as_half_a_cosine_to_a_hundredth_by_the_last_step():
    optimizer = build(steps_per_epoch=5, epochs=4, learning_rate=4e-3).optimizer
    rates = []
    for done in (0, 2 * 5, 4 * 5):
        optimizer.iterations.assign(done)
        rates.append(float(optimizer.learning_rate))
    assert rates == pytest.approx([4e-3, 4e-3 * (1 + 0.01) / 2, 4e-3 * 0.01])
