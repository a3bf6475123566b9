"""The exported signatures against the live networks, and what they refuse."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mammogan_tf.config import CLASSES
from mammogan_tf.models.dcgan import seeded_noise
from mammogan_tf.serving.film_png import decode_films
from mammogan_tf.serving.orientation import find_lean
from mammogan_tf.serving.signatures import CLEARLY, synthesize_signatures, unet_signatures

SIZE, Z_DIM = 16, 8


@pytest.fixture(scope="module")
def unet(everything):
    return tf.saved_model.load(str(everything / "unet" / "1"))


@pytest.fixture(scope="module")
def generator(everything):
    return tf.saved_model.load(str(everything / "generator" / "1"))


@pytest.fixture(scope="module")
def synthesize(everything):
    return tf.saved_model.load(str(everything / "synthesize" / "1"))


def seeded(generator, seeds, label_maps, labels):
    inputs = {"seed": np.int64(seeds), "label_map": np.int32(label_maps), "label": np.int32(labels)}
    return generator.signatures["generate_seeded"](**{name: tf.constant(value) for name, value in inputs.items()})


def draw(synthesize, pngs, seeds, lesions=None):
    inputs = {"png": tf.constant(pngs), "seed": tf.constant(seeds, tf.int64)}
    if lesions is None:
        return synthesize.signatures["serving_default"](**inputs)
    return synthesize.signatures["with_lesion"](**inputs, lesion=tf.constant(lesions, tf.float32))


@pytest.mark.parametrize("batch", [1, 3])
def test_unet_gives_the_live_output(unet, live_unet, films, batch):
    answer = unet.signatures["serving_default"](image=tf.constant(films[:batch, ..., None]))
    expected = live_unet(films[:batch, ..., None], training=False).numpy()
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)
    np.testing.assert_array_equal(answer["label_map"], expected.argmax(-1))


def test_segment_png_is_segment_on_the_decoded_film_or_its_mirror_image(unet, drawn_films):
    films = decode_films(tf.constant(drawn_films), SIZE)
    as_it_is = unet.signatures["serving_default"](image=films)
    mirrored = unet.signatures["serving_default"](image=films[:, :, ::-1])["probabilities"][:, :, ::-1]
    right = (find_lean(as_it_is["label_map"]) > CLEARLY)[:, None, None, None]
    expected = tf.where(right, mirrored, as_it_is["probabilities"])
    answer = unet.signatures["segment_png"](png=tf.constant(drawn_films))
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)
    np.testing.assert_array_equal(answer["label_map"], tf.argmax(expected, axis=-1))


def muscle_on_the_left(image, training):
    """A network one can follow: tissue is where the film is not black, and in the first quarter of the columns it is muscle."""
    muscle = tf.where(tf.range(SIZE) < SIZE // 4, CLASSES.index("pectoral"), CLASSES.index("adipose"))
    return tf.one_hot(tf.where(image[..., 0] > 0, muscle, 0), 5)


@pytest.mark.parametrize("chosen", [[0], [1], [0, 1, 2]], ids=["left", "right", "both, and black"])
def test_muscle_is_at_the_chest_wall_on_whichever_side_it_is(drawn_films, chosen):
    signatures = unet_signatures(muscle_on_the_left, SIZE)
    films = tf.constant([drawn_films[number] for number in chosen])
    found = signatures["segment_png"][0](films)["label_map"].numpy()
    tissue = decode_films(films, SIZE)[..., 0].numpy() > 0
    np.testing.assert_array_equal(found > 0, tissue)
    for number, label_map in zip(chosen, found, strict=True):
        columns = {0: {0, 1, 2, 3}, 1: {12, 13, 14, 15}, 2: set()}[number]
        assert set(np.flatnonzero((label_map == 3).any(axis=0))) <= columns
        assert (label_map == 3).any() == (number < 2)


@pytest.mark.parametrize(("higher", "right"), [(1, False), (8, True)])
def test_only_a_film_that_leans_clearly_is_looked_at_mirrored(higher, right):
    # 16 columns of 8 pixels, the last of 9 or 16: a lean of 15 / 2 / 129 / 16 = 0.004 or 8 * 15 / 2 / 136 / 16 = 0.03.
    film = np.zeros((SIZE, SIZE), np.uint8)
    film[:8], film[8 : 8 + higher, -1] = 200, 200
    found = unet_signatures(muscle_on_the_left, SIZE)["segment_png"][0](tf.io.encode_png(film[..., None])[None])
    muscle = [12, 13, 14, 15] if right else [0, 1, 2, 3]
    assert np.flatnonzero((found["label_map"].numpy()[0] == 3).any(axis=0)).tolist() == muscle


def test_a_window_is_looked_at_as_it_lies(drawn_films):
    found = unet_signatures(muscle_on_the_left, SIZE, "roi")["segment_png"][0](tf.constant(drawn_films[1:2]))
    assert not (found["label_map"].numpy()[..., SIZE // 4 :] == 3).any()


@pytest.mark.parametrize("batch", [1, 3])
def test_generator_gives_the_live_output(generator, live_generator, condition, batch):
    seeds, label_maps, labels = (part[:batch] for part in condition)
    answer = seeded(generator, seeds, label_maps, labels)
    noise = seeded_noise(tf.constant(seeds), Z_DIM).numpy()
    inputs = {"noise": noise, "mask": np.eye(5, dtype=np.float32)[label_maps], "label": labels}
    expected = (live_generator(inputs, training=False).numpy() + 1) / 2
    np.testing.assert_allclose(answer["image"], expected, atol=1e-6)
    from_noise = generator.signatures["serving_default"](
        noise=tf.constant(noise), label_map=tf.constant(np.int32(label_maps)), label=tf.constant(np.int32(labels))
    )
    np.testing.assert_allclose(from_noise["image"], expected, atol=1e-6)


def test_a_seed_gives_the_same_film_whatever_else_is_in_the_batch(generator, condition):
    seeds, label_maps, labels = condition
    together, alone = seeded(generator, *condition), seeded(generator, seeds[1:2], label_maps[1:2], labels[1:2])
    np.testing.assert_allclose(together["image"][1], alone["image"][0], atol=1e-6)
    other = seeded(generator, seeds[1:2] + 1, label_maps[1:2], labels[1:2])
    assert np.abs(other["image"] - alone["image"]).max() > 1e-3


@pytest.mark.parametrize("value", [-1, 5])
def test_a_class_or_label_out_of_range_is_refused(generator, condition, value):
    seeds, label_maps, labels = condition
    wrong = label_maps.copy()
    wrong[0, 0, 0] = value
    with pytest.raises(tf.errors.InvalidArgumentError, match="label_map: expected values 0-4"):
        seeded(generator, seeds, wrong, labels)
    with pytest.raises(tf.errors.InvalidArgumentError, match="label: expected values 0-2"):
        seeded(generator, seeds, label_maps, [0, 0, value])


def test_uneven_batches_are_refused(generator, synthesize, condition, drawn_films):
    seeds, label_maps, labels = condition
    with pytest.raises(tf.errors.InvalidArgumentError, match="one label_map and one label"):
        seeded(generator, seeds[:2], label_maps, labels)
    with pytest.raises(tf.errors.InvalidArgumentError, match="one seed to each png"):
        draw(synthesize, drawn_films, [1, 2])
    with pytest.raises(tf.errors.InvalidArgumentError, match="one seed and one lesion to each png"):
        draw(synthesize, drawn_films, [1, 2, 3], [[0.5, 0.5, 0.1]])


def test_synthesize_gives_the_live_output(synthesize, live_unet, live_generator, drawn_films):
    inputs = {"png": tf.constant(drawn_films), "seed": tf.constant([1, 2, 3], tf.int64)}
    expected = synthesize_signatures(live_unet, live_generator, SIZE, Z_DIM)["serving_default"][0](**inputs)
    answer = draw(synthesize, drawn_films, [1, 2, 3])
    np.testing.assert_array_equal(answer["label_map"], expected["label_map"])
    np.testing.assert_allclose(answer["image"], expected["image"], atol=1e-6)


def test_the_anatomy_is_that_of_segment_png_without_its_lesions(synthesize, unet, drawn_films):
    probabilities = unet.signatures["segment_png"](png=tf.constant(drawn_films))["probabilities"].numpy()
    label_map = draw(synthesize, drawn_films, [1, 2, 3])["label_map"]
    np.testing.assert_array_equal(label_map, probabilities[..., :4].argmax(-1))


@pytest.fixture(scope="module")
def plain():
    """``synthesize`` of networks one can follow: tissue is where the film is not black; a film is brighter to the right,
    and darker by a half if it is benign."""

    def unet(image, training):
        return tf.one_hot(tf.cast(image[..., 0] > 0, tf.int32), 5)

    def generator(inputs, training):
        ramp = tf.range(1, SIZE + 1, dtype=tf.float32)[None, None, :, None] / SIZE
        label = tf.cast(inputs["label"], tf.float32)[:, None, None, None]
        return 2 * (1 - inputs["mask"][..., :1]) * ramp * (1 + label / 2) / 2 - 1  # 0 is benign, 2 is normal.

    return {name: function for name, (function, _) in synthesize_signatures(unet, generator, SIZE, Z_DIM).items()}


def test_the_generator_sees_the_chest_wall_on_the_left_whatever_the_film_has(plain, drawn_films):
    left, right = (plain["serving_default"](tf.constant([png]), tf.constant([1], tf.int64)) for png in drawn_films[:2])
    assert left["label_map"].shape == right["label_map"].shape == (1, SIZE, SIZE)
    for answer, outward in ((left, 1), (right, -1)):
        tissue = answer["label_map"].numpy()[0] == 1
        columns = np.flatnonzero(tissue.any(axis=0))[::outward]
        brightness = answer["image"].numpy()[0, ..., 0].max(axis=0)[columns]
        np.testing.assert_allclose(brightness, np.arange(1, len(columns) + 1) / SIZE, atol=1e-6)
        assert (answer["image"].numpy()[0, ..., 0][~tissue] == 0).all()


def test_a_film_is_normal_and_with_a_lesion_benign(plain, drawn_films):
    inputs = {"png": tf.constant(drawn_films[:1]), "seed": tf.constant([1], tf.int64)}
    normal, benign = (
        plain["serving_default"](**inputs),
        plain["with_lesion"](**inputs, lesion=tf.constant([[0.2, 0.5, 0.1]])),
    )
    same = (normal["label_map"] == benign["label_map"]).numpy()
    assert 0 < (~same).sum() < 16
    np.testing.assert_allclose(
        benign["image"].numpy()[..., 0][same], normal["image"].numpy()[..., 0][same] / 2, atol=1e-6
    )
    twice = {name: tf.repeat(value, 2, axis=0) for name, value in inputs.items()}
    mixed = plain["with_lesion"](**twice, lesion=tf.constant([[0.2, 0.5, 0], [0.2, 0.5, 0.1]]))
    for name in ("label_map", "image"):
        np.testing.assert_array_equal(mixed[name], tf.concat([normal[name], benign[name]], axis=0))


def test_a_synthesized_film_depends_on_its_own_png_and_seed_alone(synthesize, drawn_films):
    together, alone = draw(synthesize, drawn_films, [4, 5, 6]), draw(synthesize, drawn_films[1:2], [5])
    for name in ("label_map", "image"):
        np.testing.assert_allclose(together[name][1], alone[name][0], atol=1e-6)
    other = draw(synthesize, drawn_films[1:2], [6])["image"]
    assert np.abs(other - alone["image"]).max() > 1e-3


def test_the_png_of_a_synthesized_film_holds_its_image(synthesize, drawn_films):
    answer = draw(synthesize, drawn_films, [1, 2, 3])
    for png, film in zip(answer["png"].numpy(), answer["image"].numpy(), strict=True):
        with Image.open(io.BytesIO(png)) as image:
            assert image.info["Synthetic"] == "true"
            np.testing.assert_array_equal(np.asarray(image), np.rint(film[..., 0] * 255))


def test_a_lesion_is_painted_on_the_anatomy(synthesize, drawn_films):
    # A circle about the common corner of columns 4 and 5, rows 10 and 11 of 16, as small as to reach only their centres.
    plain = draw(synthesize, drawn_films[:1], [3])
    answer = draw(synthesize, drawn_films[:1], [3], [[5 / 16, 11 / 16, 0.6 / 16]])
    expected = plain["label_map"].numpy()
    expected[:, 10:12, 4:6] = 4
    np.testing.assert_array_equal(answer["label_map"], expected)
    assert np.abs(answer["image"] - plain["image"]).max() > 1e-3


@pytest.mark.parametrize("lesion", [[-0.1, 0.5, 0.1], [0.5, 1.1, 0.1], [0.5, 0.5, np.nan], [0.5, 0.5, np.inf]])
def test_a_lesion_off_the_film_is_refused(synthesize, drawn_films, lesion):
    with pytest.raises(tf.errors.InvalidArgumentError, match="lesion: expected values 0-1"):
        draw(synthesize, drawn_films[:1], [3], [lesion])


def test_a_lesion_beside_the_breast_is_refused(synthesize, drawn_films):
    black = drawn_films[2:]
    with pytest.raises(tf.errors.InvalidArgumentError, match="lesion: expected a place on the breast"):
        draw(synthesize, black, [3], [[0.5, 0.5, 0.1]])
    answer, plain = draw(synthesize, black, [3], [[0.5, 0.5, 0]]), draw(synthesize, black, [3])
    np.testing.assert_array_equal(answer["label_map"], plain["label_map"])


def test_bytes_that_are_no_film_are_refused(unet, synthesize):
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected a PNG file"):
        unet.signatures["segment_png"](png=tf.constant([b"GIF89a"]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected a PNG file"):
        draw(synthesize, [b"GIF89a"], [1])
