from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from mammogan_tf.errors import ConfigError
from mammogan_tf.models.blocks import Foreground, LesionMean, MinibatchDeviation
from mammogan_tf.models.dcgan import build_critic, build_generator, build_plain_generator, seeded_noise
from tests.conformance import check_output_shape, check_save_and_reload

SIZE, Z_DIM, FILMS = 16, 8, 3
NORMALISATIONS = (layers.BatchNormalization, layers.GroupNormalization, layers.LayerNormalization)


def one_hot(label_maps: np.ndarray) -> np.ndarray:
    return np.eye(5, dtype=np.float32)[label_maps]


@pytest.fixture(scope="module")
def generator():
    keras.utils.set_random_seed(0)
    return build_generator(SIZE, z_dim=Z_DIM, widths=(8, 8, 4))


@pytest.fixture(scope="module", params=["residual", "plain"])
def any_generator(request, generator):
    if request.param == "residual":
        return generator
    keras.utils.set_random_seed(0)
    return build_plain_generator(SIZE, z_dim=Z_DIM, widths=(8, 4))


@pytest.fixture(scope="module", params=["patches", "film"])
def critic(request):
    keras.utils.set_random_seed(0)
    return build_critic(SIZE, widths=(4, 8, 8), patches=request.param == "patches")


@pytest.fixture
def condition():
    """Noise, masks without background, and labels of three films."""
    random = np.random.default_rng(0)
    return {
        "noise": random.normal(size=(FILMS, Z_DIM)).astype(np.float32),
        "mask": one_hot(random.integers(1, 5, (FILMS, SIZE, SIZE))),
        "label": np.array([0, 1, 2], np.int32),
    }


@pytest.fixture
def critic_input(condition):
    """Film, mask and label of three films."""
    images = np.random.default_rng(1).uniform(-1, 1, (FILMS, SIZE, SIZE, 1)).astype(np.float32)
    return {"image": images, "mask": condition["mask"], "label": condition["label"]}


def call(model, inputs, **changes):
    return np.asarray(model({**inputs, **changes}, training=False))


def test_films_are_in_the_range_of_the_network(any_generator, condition):
    films = check_output_shape(any_generator, condition, (FILMS, SIZE, SIZE, 1))
    assert -1 <= films.min() < 0 < films.max() <= 1


@pytest.mark.parametrize("build", [partial(build_generator, z_dim=8), build_critic])
@pytest.mark.parametrize("size", [8, 24, 32])
def test_each_resolution_has_its_width(build, size):
    with pytest.raises(ConfigError, match=rf"widths: .* {size} x {size} pixels, .* received: \(8, 8, 4\)"):
        build(size, widths=(8, 8, 4))


def test_a_plain_generator_has_a_width_for_each_resolution_below_the_film():
    with pytest.raises(ConfigError, match=r"widths: .* 8 x 8 pixels, .* received: \(8, 8, 4\)"):
        build_plain_generator(16, z_dim=8, widths=(8, 8, 4))


def test_patches_need_some_pixels():
    with pytest.raises(ConfigError, match="size: expected 16 or more for patches, received: 8"):
        build_critic(8, widths=(4, 8))
    assert build_critic(8, widths=(4, 8), patches=False).output_shape == (None, 1)


def test_save_and_reload_of_the_generator(any_generator, condition, tmp_path):
    check_save_and_reload(any_generator, condition, tmp_path)


@pytest.mark.parametrize("widths", [(8,), (8, 4), (8, 4, 4, 4)])
def test_the_film_doubles_with_each_width(widths):
    size = 4 * 2 ** (len(widths) - 1)
    assert build_generator(size, z_dim=Z_DIM, widths=widths).output_shape == (None, size, size, 1)


@pytest.mark.parametrize("name", ["noise", "mask", "label"])
def test_every_input_of_the_generator_counts(any_generator, condition, name):
    changed = np.roll(condition[name], 1, axis=0)
    difference = np.abs(call(any_generator, condition, **{name: changed}) - call(any_generator, condition))
    assert difference.max(axis=(1, 2, 3)).min() > 1e-4


def test_the_mask_acts_where_it_changes(generator, condition):
    mask = condition["mask"].copy()
    mask[:, 8:12, 8:12] = one_hot(np.array(4))
    difference = np.abs(call(generator, condition, mask=mask) - call(generator, condition)).mean(axis=(0, 3))
    assert difference[8:12, 8:12].mean() > 2 * difference[:4].mean()


def test_the_mask_enters_at_every_resolution(generator):
    for side in (4, 8, 16):
        assert generator.get_layer(f"mask{side}").output.shape[1:] == (side, side, 5)
        maps = 2 if side >= 16 else 1
        assert generator.get_layer(f"noise{side}_maps").output.shape[1:] == (side, side, maps)


def test_noise_has_two_maps_from_16_to_64_pixels():
    generator = build_generator(128, z_dim=2, widths=(1,) * 6)
    maps = {side: generator.get_layer(f"noise{side}_maps").output.shape[-1] for side in (4, 8, 16, 32, 64, 128)}
    assert maps == {4: 1, 8: 1, 16: 2, 32: 2, 64: 2, 128: 1}


def test_the_two_finest_resolutions_have_two_residual_blocks(generator):
    blocks = {layer.name: layer for layer in generator.layers if isinstance(layer, layers.Add)}
    assert set(blocks) == {"detail8_0", "detail8_1", "detail16_0", "detail16_1"}
    for name, block in blocks.items():
        before, change = block.input
        assert generator.get_layer(f"{name}_conv").input is before
        assert generator.get_layer(f"{name}_relu").output is change


def test_the_mask_has_softened_edges_at_the_full_resolution_and_means_below(generator):
    mask = np.zeros((1, SIZE, SIZE, 5), np.float32)
    mask[0, 8, 8] = 1
    full, half = np.zeros((SIZE, SIZE)), np.zeros((SIZE // 2, SIZE // 2))
    full[7:10, 7:10], half[4, 4] = 1 / 9, 1 / 4
    for side, expected in ((SIZE, full), (SIZE // 2, half)):
        np.testing.assert_allclose(generator.get_layer(f"mask{side}")(mask)[0, :, :, 4], expected, rtol=1e-6)


def test_upsampling_repeats_no_pixels(generator):
    step = np.repeat(np.float32([0, 1]), 2).reshape(1, 1, 4, 1)
    for side in (8, 16):
        row = np.ravel(generator.get_layer(f"up{side}")(step)[0, 0])
        np.testing.assert_allclose(row, [0, 0, 0, 1 / 4, 3 / 4, 1, 1, 1])


def test_a_plain_generator_doubles_noise_and_mask_by_transposed_convolutions_from_4_pixels():
    generator = build_plain_generator(32, z_dim=Z_DIM, widths=(12, 8, 6))
    ways = {
        kind: [layer.output.shape[1:] for layer in generator.layers if isinstance(layer, kind)]
        for kind in (layers.Conv2D, layers.Conv2DTranspose)
    }
    assert ways[layers.Conv2D] == [(16, 16, 6), (8, 8, 8), (4, 4, 12)]
    assert ways[layers.Conv2DTranspose] == [(8, 8, 8), (16, 16, 6), (32, 32, 1)]
    assert generator.get_layer("noise_and_mask").output.shape[1:] == (4, 4, 2 * 12)
    normalised = [layer.output.shape[1:] for layer in generator.layers if isinstance(layer, layers.BatchNormalization)]
    assert sorted(normalised) == sorted([(4, 4, 12), *ways[layers.Conv2D], *ways[layers.Conv2DTranspose][:-1]])


def test_the_background_is_black(any_generator, condition):
    mask = condition["mask"].copy()
    mask[:, :, 10:] = one_hot(np.array(0))
    films = call(any_generator, condition, mask=mask)
    assert (films[:, :, 10:] == -1).all()
    assert (films[:, :, :10] > -1).all()


@pytest.mark.parametrize(("build", "widths"), [(build_generator, (8, 8, 4)), (build_plain_generator, (8, 4))])
def test_a_kept_background_is_drawn(build, widths, condition):
    generator = build(SIZE, z_dim=Z_DIM, widths=widths, black_background=False)
    assert (call(generator, condition, mask=one_hot(np.zeros((FILMS, SIZE, SIZE), int))) > -1).all()


def test_foreground():
    film = np.array([-1, 0.5, 0.25, 1], np.float32).reshape(1, 2, 2, 1)
    mask = one_hot(np.array([[[0, 0], [1, 4]]]))
    np.testing.assert_array_equal(np.ravel(Foreground()([film, mask])), [-1, -1, 0.25, 1])


def test_scores(critic, critic_input):
    check_output_shape(critic, critic_input, (FILMS, 1))


def test_save_and_reload_of_the_critic(critic, critic_input, tmp_path):
    check_save_and_reload(critic, critic_input, tmp_path)


@pytest.mark.parametrize("name", ["image", "mask", "label"])
def test_every_input_of_the_critic_counts(critic, critic_input, name):
    changed = np.roll(critic_input[name], 1, axis=0)
    assert np.abs(call(critic, critic_input, **{name: changed}) - call(critic, critic_input)).min() > 1e-5


@pytest.mark.parametrize("patches", [True, False])
def test_patches_score_alike_wherever_they_are(patches):
    keras.utils.set_random_seed(0)
    critic = build_critic(64, widths=(4, 4, 4, 4, 4), patches=patches)
    film = np.zeros((1, 64, 64, 1), np.float32)
    film[:, 28:36, 24:32] = np.random.default_rng(0).uniform(1, 2, (1, 8, 8, 1))
    nothing = {"mask": np.zeros((1, 64, 64, 5), np.float32), "label": np.zeros(1, np.int32)}
    here, there = (critic({"image": image, **nothing}) for image in (film, np.roll(film, 8, axis=2)))
    assert (abs(float(here[0, 0] - there[0, 0])) < 1e-5) == patches


def test_patches_of_three_sizes_are_scored_at_64_pixels():
    critic = build_critic(64, widths=(4, 6, 8, 10, 12))
    scored = [layer.input.shape[1:] for layer in critic.layers if layer.name.startswith("mean")]
    assert scored == [(32, 32, 6), (16, 16, 8), (8, 8, 10)]


def test_the_smallest_patches_on_a_lesion_count_by_a_mean_of_their_own():
    critic = build_critic(64, widths=(4, 6, 8, 10, 12))
    assert critic.get_layer("lesion_mean").input[0].shape[1:] == (32, 32, 6)
    assert critic.get_layer("features").output.shape[1:] == (6 + 8 + 10 + 6,)


@pytest.mark.parametrize("patches", [True, False])
def test_only_patches_are_scored_with_the_deviation_within_the_batch(patches):
    critic = build_critic(SIZE, widths=(4, 8, 8), patches=patches)
    assert any(isinstance(layer, MinibatchDeviation) for layer in critic.layers) == patches


def test_the_critic_bends_what_it_sees_by_a_slope_of_a_fifth_below_zero(critic):
    bends = [layer for layer in critic.layers if isinstance(layer, layers.LeakyReLU)]
    assert len(bends) == len([layer for layer in critic.layers if isinstance(layer, layers.Conv2D | layers.Dense)]) - 1
    for layer in bends:
        np.testing.assert_allclose(layer(tf.constant([-5.0, 5.0])), [-5 / 5, 5])


def test_kernels_before_a_bend_begin_as_he_says(critic, generator):
    drawn = [layer for layer in (*critic.layers, *generator.layers) if hasattr(layer, "kernel_initializer")]
    he = {layer.name for layer in drawn if isinstance(layer.kernel_initializer, keras.initializers.HeNormal)}
    assert he == {layer.name for layer in drawn if layer.name.startswith(("conv", "summary")) or "_conv" in layer.name}


def test_the_critic_has_no_batch_normalisation(critic, generator):
    assert not [layer.name for layer in critic.layers if isinstance(layer, NORMALISATIONS)]
    assert [layer.name for layer in generator.layers if isinstance(layer, NORMALISATIONS)]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_the_critic_is_float32_under_any_policy(policy, critic_input, condition):
    keras.config.set_dtype_policy(policy)
    try:
        critic, generator = build_critic(SIZE, widths=(4, 8, 8)), build_generator(SIZE, z_dim=Z_DIM, widths=(8, 8, 4))
    finally:
        keras.config.set_dtype_policy("float32")
    computing = [layer for layer in critic.layers if not isinstance(layer, layers.InputLayer)]
    assert {layer.compute_dtype for layer in computing} == {"float32"}
    assert call(critic, critic_input).dtype == np.float32
    assert generator.get_layer("block16_conv").compute_dtype == policy.removeprefix("mixed_")
    check_output_shape(generator, condition, (FILMS, SIZE, SIZE, 1))


def test_the_mean_over_lesions_weighs_places_by_their_share_of_lesion():
    label_maps = np.ones((2, 4, 4), int)
    label_maps[0, :2, :2] = 4
    label_maps[0, 0, 2] = 4
    features = np.array([[8, 16], [32, 64]], np.float32)[None, :, :, None] * np.array([1, -1]).reshape(2, 1, 1, 1)
    # A whole quarter of the first film and a quarter of its neighbour; the second film has no lesion.
    np.testing.assert_allclose(LesionMean()([features, one_hot(label_maps)]), [[(8 + 16 / 4) / (1 + 1 / 4)], [0]])


def test_minibatch_deviation():
    # Pixel by pixel the two films deviate from their mean by 1, 2, 3 and 4: on average by 10 / 4.
    half = np.array([1, 2, 3, 4], np.float32).reshape(2, 2, 1)
    output = np.asarray(MinibatchDeviation()(np.stack([5 + half, 5 - half])))
    np.testing.assert_array_equal(output[..., :1], np.stack([5 + half, 5 - half]))
    np.testing.assert_allclose(output[..., 1], np.full((2, 2, 2), (1 + 2 + 3 + 4) / 4), rtol=1e-6)


def test_films_that_are_alike_have_no_deviation_and_a_finite_gradient():
    films = tf.Variable(tf.ones([3, 2, 2, 1]))
    with tf.GradientTape() as tape:
        output = MinibatchDeviation()(films)
    np.testing.assert_allclose(output[..., 1], 0, atol=2e-4)
    assert np.isfinite(tape.gradient(output, films)).all()


def test_noise_maps_begin_white_and_of_deviation_1_at_every_resolution():
    keras.utils.set_random_seed(0)
    generator = build_generator(64, z_dim=64, widths=(4,) * 5)
    for side in (4, 8, 16, 32, 64):
        to_maps = keras.Model(generator.input["noise"], generator.get_layer(f"noise{side}_maps").output)
        maps = to_maps(seeded_noise(np.arange(200), 64)).numpy()[..., 0]
        assert abs(maps.std() - 1) < 0.1
        assert abs(np.corrcoef(maps[:, :, 1:].ravel(), maps[:, :, :-1].ravel())[0, 1]) < 0.15


def test_noise_of_a_seed_is_the_same_in_any_company():
    seeds = np.array([3, 0, 2**32 + 3, 3], np.int64)
    noise = seeded_noise(seeds, 50).numpy()
    np.testing.assert_array_equal(noise[0], noise[3])
    for row, seed in zip(noise, seeds, strict=True):
        np.testing.assert_array_equal(seeded_noise([seed], 50).numpy()[0], row)
    for other in noise[1:3]:
        assert np.abs(noise[0] - other).max() > 0.1


def test_the_noise_of_a_seed_never_changes():
    np.testing.assert_allclose(seeded_noise([7], 3), [[-0.6741728, -0.3586926, -1.8795817]], rtol=1e-5)


def test_noise_is_standard_normal():
    noise = seeded_noise(np.arange(400), 25).numpy()
    # The mean of 10000 draws has the standard error 1 / 100.
    assert abs(noise.mean()) < 4 / 100
    assert abs(noise.std() - 1) < 4 / 100
    neighbours = np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]
    assert abs(neighbours) < 4 / 100
