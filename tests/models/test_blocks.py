import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import correlate

from mammogan_tf.models.blocks import (
    BatchDropout,
    DoublingConvolution,
    Emphasis,
    FusedNormalization,
    attention_gate,
    convolution_block,
)
from tests.conformance import check_save_and_reload


def seen(film: np.ndarray, gain: float, channel: int = 0) -> np.ndarray:
    return np.asarray(Emphasis(gain)(film[None, :, :, None].astype(np.float32)))[0, :, :, channel]


@pytest.fixture
def film():
    return np.random.default_rng(0).integers(0, 256, (16, 16)) / 127.5 - 1


def test_without_gain_a_film_is_seen_as_it_is(film):
    np.testing.assert_array_equal(seen(film, 0.0), film.astype(np.float32))


def test_what_is_flat_stays_as_it_is():
    flat = np.full((16, 16), 38 / 127.5 - 1)
    np.testing.assert_allclose(seen(flat, 8.0), flat, rtol=1e-5)
    for channel in (1, 2, 3):
        np.testing.assert_allclose(seen(flat, 8.0, channel), 0, atol=1e-5)


def test_a_chequerboard_is_lifted_by_the_whole_gain():
    film = np.indices((16, 16)).sum(axis=0) % 2 * 2.0 - 1.0
    # Both blurs take it away wholly, but where the edge mirrors it: x + g x + g / 2 x.
    inside = np.s_[3:-3, 3:-3]
    np.testing.assert_allclose(seen(film, 8.0)[inside], film[inside] * (1 + 8 + 8 / 2), rtol=1e-5)


def test_it_is_the_formula_of_its_docstring(film):
    narrow, wide = np.array([1, 2, 1]) / 4, np.array([1, 6, 15, 20, 15, 6, 1]) / 64
    blurred = [correlate(film, np.outer(row, row), mode="reflect") for row in (narrow, wide)]
    expected = film + 3 * (film - blurred[0]) + 3 / 2 * (film - blurred[1])
    np.testing.assert_allclose(seen(film, 3.0), expected, rtol=1e-4, atol=1e-5)
    compressed = np.arcsinh((film - blurred[0]) * 255 / 2) / 4
    np.testing.assert_allclose(seen(film, 3.0, channel=1), compressed, rtol=1e-3, atol=1e-4)


def test_an_even_slope_shows_by_its_steps_alone():
    film = (np.indices((16, 16))[0] * 3 + np.indices((16, 16))[1] * 2) / 127.5 - 1  # Three levels a row, two a column.
    inside = np.s_[3:-3, 3:-3]
    for channel, step in ((1, 0), (2, 2), (3, 3)):
        np.testing.assert_allclose(seen(film, 8.0, channel)[inside], np.arcsinh(step) / 4, atol=1e-4)
    # Beyond the edge a film goes on as in a mirror: no step.
    np.testing.assert_allclose(seen(film, 8.0, 2)[:, -1], 0, atol=1e-5)
    np.testing.assert_allclose(seen(film, 8.0, 3)[-1], 0, atol=1e-5)


def test_what_is_lifted_is_linear(film):
    # Other films that lie whole grey levels from it, also halfway.
    other = film + 2 * np.random.default_rng(1).integers(-60, 60, film.shape) / 127.5
    expected = (seen(film, 8.0) + seen(other, 8.0)) / 2
    np.testing.assert_allclose(seen((film + other) / 2, 8.0), expected, rtol=1e-4, atol=1e-4)


def test_films_are_seen_in_whole_grey_levels_and_the_gradient_passes_that_by(film):
    between = film + np.random.default_rng(1).uniform(-0.4, 0.4, film.shape) / 127.5
    for channel in range(4):
        np.testing.assert_allclose(seen(between, 8.0, channel), seen(film, 8.0, channel), rtol=1e-3, atol=1e-4)
    batch = tf.Variable(between[None, :, :, None], dtype=tf.float32)
    with tf.GradientTape() as tape:
        lifted = tf.reduce_sum(Emphasis(8.0)(batch)[..., 0])
    # What each pixel of a film adds to the sum of a filter that leaves what is flat as it is; the edge is mirrored.
    np.testing.assert_allclose(tape.gradient(lifted, batch)[0, 6:-6, 6:-6], 1, rtol=1e-4)
    with tf.GradientTape() as tape:
        middle = Emphasis(8.0)(batch)[0, 8, 8, 1]
    # Of asinh(127.5 h) / 4, where 4 parts of 16 of the binomial blur are the pixel's own.
    fine = np.sinh(4 * middle) / 127.5
    slope = 127.5 / 4 / np.sqrt(1 + (127.5 * fine) ** 2)
    np.testing.assert_allclose(tape.gradient(middle, batch)[0, 8, 8, 0], slope * (1 - 4 / 16), rtol=1e-3)


@pytest.mark.parametrize("octaves", [1, 2, 3])
def test_a_film_of_twice_the_side_is_seen_as_it_was_and_its_finest_detail_lifted_further(octaves):
    """Waves that are twice as long, for each octave, are lifted as far; the finest twice as far."""

    def lift(octaves: int, wavelength: int) -> float:
        film = np.cos(2 * np.pi * np.arange(128) / wavelength)[None, None, :, None].repeat(128, axis=1)
        lifted = Emphasis(8.0, octaves)(np.rint(film * 100).astype(np.float32) / 127.5 - 27.5 / 127.5)[0, 64, 32:96, 0]
        return np.ptp(lifted) / np.ptp(film) * 127.5 / 100

    for wavelength in (8, 16):
        assert lift(octaves, wavelength * 2 ** (octaves - 1)) == pytest.approx(lift(1, wavelength), rel=0.25)
    assert lift(octaves, 2) == pytest.approx(1 + 4 + 8 * (2**octaves - 1), rel=1e-3)
    flat = np.full((32, 32, 1), 100 / 127.5 - 1, np.float32)
    np.testing.assert_allclose(Emphasis(8.0, octaves)(flat[None])[0, :, :, 0], flat[:, :, 0], rtol=1e-4)


def test_it_survives_saving(tmp_path, film):
    inputs = keras.Input((16, 16, 1))
    network = keras.Model(inputs, Emphasis(5.0, 2)(inputs))
    network.save(tmp_path / "network.keras")
    again = keras.models.load_model(tmp_path / "network.keras")
    batch = tf.constant(film[None, :, :, None], tf.float32)
    np.testing.assert_array_equal(network(batch), again(batch))


@pytest.mark.parametrize("shape", [(4, 8, 8, 3), (2, 2, 1, 3)])
def test_fused_normalisation_gives_what_keras_gives(shape):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(2, 3, shape).astype("float32"))
    weights = tf.constant(rng.normal(size=shape).astype("float32"))
    ours, theirs = (kind(momentum=0.9) for kind in (FusedNormalization, keras.layers.BatchNormalization))
    for training in (True, True, False):
        results = []
        for layer in (ours, theirs):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=training)
                loss = tf.reduce_sum(weights * y**2)
            results.append([y, *tape.gradient(loss, [x, *layer.trainable_variables]), *layer.weights])
        for got, expected in zip(*results, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_a_doubling_convolution_is_one_of_doubled_maps_joined_with_the_skip():
    rng = np.random.default_rng(0)
    below, skip, weights = (
        tf.constant(rng.normal(size=shape), tf.float32) for shape in ((2, 3, 4, 5), (2, 6, 8, 2), (2, 6, 8, 3))
    )
    layer = DoublingConvolution(3)
    plain = keras.layers.Conv2D(3, 3, padding="same", use_bias=False)
    plain.build((None, 6, 8, 7))
    layer([below, skip])
    plain.set_weights(layer.get_weights())

    def doubled(maps):
        return plain(keras.layers.Concatenate()([keras.layers.UpSampling2D(2)(maps[0]), maps[1]]))

    results = []
    for convolution, kernel in ((layer, layer.kernel), (doubled, plain.kernel)):
        with tf.GradientTape() as tape:
            tape.watch([below, skip])
            y = convolution([below, skip])
            loss = tf.reduce_sum(weights * y)
        results.append([y, *tape.gradient(loss, [below, skip, kernel])])
    for got, expected in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_a_doubling_convolution_survives_saving_and_takes_any_batch(tmp_path):
    inputs = [keras.Input((2, 2, 3)), keras.Input((4, 4, 1))]
    network = keras.Model(inputs, DoublingConvolution(2)(inputs))
    assert network.output_shape == (None, 4, 4, 2)
    check_save_and_reload(network, [tf.random.normal((5, 2, 2, 3)), tf.random.normal((5, 4, 4, 1))], tmp_path)


def test_a_block_convolves_normalises_by_averages_of_ten_batches_and_drops_what_is_negative():
    inputs = keras.Input((4, 4, 2))
    block = keras.Model(inputs, convolution_block(inputs, 3, "block"))
    norm = block.get_layer("block_norm")
    before = norm.moving_mean.numpy()
    x = tf.constant(np.random.default_rng(0).normal(2, 3, (4, 4, 4, 2)), tf.float32)
    convolved = block.get_layer("block_conv")(x)
    mean = tf.reduce_mean(convolved, axis=(0, 1, 2))
    seen = block(x, training=True)
    np.testing.assert_allclose(norm.moving_mean, 0.9 * before + (1 - 0.9) * mean, rtol=1e-4, atol=1e-5)
    expected = tf.nn.relu((convolved - mean) / tf.math.reduce_std(convolved, axis=(0, 1, 2)))
    np.testing.assert_allclose(seen, expected, atol=1e-2)


def test_an_attention_gate_is_the_formula_of_its_docstring():
    inputs = [keras.Input((4, 4, channels)) for channels in (6, 2)]
    gate = keras.Model(inputs, attention_gate(*inputs, "gate"))
    rng = np.random.default_rng(0)
    gate.set_weights([rng.normal(size=weight.shape) for weight in gate.get_weights()])
    (w_gate, b_gate), (w_skip,), (psi, b) = (
        gate.get_layer(f"gate_{n}").get_weights() for n in ("gate", "skip", "weight")
    )
    skip, below = (rng.normal(size=(1, 4, 4, channels)).astype(np.float32) for channels in (6, 2))
    joint = skip @ w_skip[0, 0] + below @ w_gate[0, 0] + b_gate
    assert joint.shape[-1] == 6 // 2
    weight = 1 / (1 + np.exp(-(np.maximum(joint, 0) @ psi[0, 0] + b)))
    np.testing.assert_allclose(gate([skip, below]), skip * weight, rtol=1e-4, atol=1e-5)


def test_frozen_fused_normalisation_keeps_its_averages():
    layer = FusedNormalization()
    layer.build((None, 4, 4, 3))
    before = layer.get_weights()
    layer.trainable = False
    x = np.random.default_rng(0).normal(2, 3, (4, 4, 4, 3)).astype("float32")
    np.testing.assert_allclose(layer(x, training=True), x / np.sqrt(1 + layer.epsilon), rtol=1e-5)
    for now, then in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_fused_normalisation_keeps_the_precision_and_float32_averages(precision):
    layer = FusedNormalization(dtype=precision)
    x = tf.cast(np.random.default_rng(0).normal(2, 3, (4, 8, 8, 3)), layer.compute_dtype)
    y = layer(x, training=True)
    assert y.dtype == layer.compute_dtype
    np.testing.assert_allclose(tf.math.reduce_std(tf.cast(y, tf.float32), axis=[0, 1, 2]), 1, atol=0.02)
    assert {weight.dtype for weight in layer.weights} == {"float32"}


def test_batch_dropout_drops_whole_channels_of_each_film():
    kept = np.asarray(BatchDropout(0.5, seed=0)(tf.ones([3, 4, 4, 64]), training=True))
    np.testing.assert_array_equal(kept, np.broadcast_to(kept[:, :1, :1], kept.shape))
    assert set(np.unique(kept)) == {0, 1 / 0.5}
    assert (kept[0] != kept[1]).any()


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_the_critic_sees_films_in_float32_whatever_precision_the_networks_have(precision):
    usual = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        assert Emphasis(3.0)(tf.zeros([1, 16, 16, 1])).dtype == tf.float32
    finally:
        keras.config.set_dtype_policy(usual)
