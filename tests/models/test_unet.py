import keras
import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.errors import ConfigError
from mammogan_tf.models.unet import anatomy_of, build_unet
from tests.conformance import check_output_shape, check_save_and_reload

FILMS = np.random.default_rng(0).random((3, 32, 32, 1), np.float32)


@pytest.mark.parametrize("widths", [(4, 8), (3, 5, 7), (2, 2, 2, 2, 2)])
def test_output(widths):
    probabilities = check_output_shape(build_unet(32, widths=widths), FILMS, (3, 32, 32, 5))
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)


def test_a_film_that_cannot_be_halved_so_often():
    with pytest.raises(ConfigError, match="size: expected a multiple of 4 for 3 levels, received: 18"):
        build_unet(18, widths=(4, 8, 8))


def test_save_and_reload(tmp_path):
    check_save_and_reload(build_unet(32, widths=(4, 8)), FILMS, tmp_path)


def test_widths_and_depth_are_arguments():
    # 3x3 convolution without bias and its normalisation (4 values a channel), twice a level; 1x1 logits.
    def block(before: int, width: int) -> int:
        return 9 * before * width + 4 * width

    model = build_unet(16, classes=3, widths=(4, 8))
    down, bottom, up = block(1, 4) + block(4, 4), block(4, 8) + block(8, 8), block(8 + 4, 4) + block(4, 4)
    assert model.count_params() == down + bottom + up + (4 * 3 + 3)


def test_layers_have_telling_names():
    names = [layer.name for layer in build_unet(32, widths=(4, 8, 16)).layers]
    assert names[0] == "image"
    assert names[-2:] == ["logits", "probabilities"]
    assert {"down0_a_conv", "down1_pool", "bottom_dropout", "up1_a_conv", "up0_b_relu"} <= set(names)


def test_every_level_is_joined_with_its_own_skip():
    model = build_unet(32, widths=(4, 8, 16))
    for level, (side, width) in enumerate([(32, 4), (16, 8)]):
        below, skip = model.get_layer(f"up{level}_a_conv").input
        assert below.shape[1:] == (side // 2, side // 2, 2 * width)
        assert skip.shape[1:3] == (side, side)
        assert skip.shape[-1] == width
        assert skip._keras_history.operation.name == f"down{level}_b_relu"


def test_attention_weighs_every_skip_by_what_lies_below():
    # A gate has two 1x1 convolutions to half the skip's channels, one with a bias, and one to a weight with a bias.
    def gate(skip: int, below: int) -> int:
        half = skip // 2
        return skip * half + (below + 1) * half + half + 1

    plain, gated = build_unet(32, widths=(4, 8, 16)), build_unet(32, widths=(4, 8, 16), attention=True)
    assert gated.count_params() - plain.count_params() == gate(4, 8) + gate(8, 16)
    check_output_shape(gated, FILMS, (3, 32, 32, 5))
    for level in (0, 1):
        skip, weight = gated.get_layer(f"up{level}_attention").input
        assert skip.shape[1:3] == weight.shape[1:3]
        assert weight.shape[-1] == 1


def test_an_attention_gate_can_close():
    model = build_unet(32, widths=(4, 8), attention=True)
    model.get_layer("up0_attention_weight").bias.assign([-100.0])
    gate = keras.Model(model.input, model.get_layer("up0_attention").output)
    assert np.abs(gate(FILMS)).max() < 1e-6


def test_save_and_reload_with_attention(tmp_path):
    check_save_and_reload(build_unet(32, widths=(4, 8), attention=True), FILMS, tmp_path)


def test_dropout_only_while_training():
    model = build_unet(32, widths=(4, 8), dropout=0.5)
    still = [np.asarray(model(FILMS, training=False)) for _ in range(2)]
    np.testing.assert_array_equal(still[0], still[1])
    keras.utils.set_random_seed(0)
    moved = [np.asarray(model(FILMS, training=True)) for _ in range(2)]
    assert np.abs(moved[0] - moved[1]).max() > 0


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_probabilities_are_float32_under_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = build_unet(32, widths=(4, 8))
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("down0_a_conv").compute_dtype == policy.removeprefix("mixed_")
    probabilities = check_output_shape(model, FILMS, (3, 32, 32, 5))
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)


def test_under_a_lesion_lies_tissue_and_never_background():
    probabilities = np.array(
        [
            [0.4, 0.1, 0.05, 0.0, 0.45],  # A lesion before background: adipose tissue is the likeliest below it.
            [0.5, 0.2, 0.1, 0.1, 0.1],  # Background.
            [0.2, 0.1, 0.4, 0.1, 0.2],  # Dense tissue.
        ],
        np.float32,
    )
    np.testing.assert_array_equal(anatomy_of(tf.constant(probabilities[None, None]))[0, 0], [1, 0, 2])
