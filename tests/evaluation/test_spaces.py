import numpy as np
import pytest

from mammogan_tf.console import Console
from mammogan_tf.errors import ModelError
from mammogan_tf.evaluation.spaces import PART, FeatureSpace, texture_space

IMAGES = np.random.default_rng(0).random((PART + 3, 16, 16)).astype(np.float32)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMMOGAN_CACHE", str(tmp_path))
    return tmp_path / "features"


@pytest.fixture
def usual_precision():
    yield
    import keras

    keras.config.set_dtype_policy("float32")


def counting(key: str = "mean") -> tuple[FeatureSpace, list[int]]:
    seen: list[int] = []

    def extract(images):
        seen.append(len(images))
        return images.mean(axis=(1, 2))[:, None].astype(np.float64)

    return FeatureSpace(key, extract, Console(quiet=True)), seen


def test_features_are_computed_once_for_each_content(cache):
    space, seen = counting()
    first = space(IMAGES)
    assert seen == [PART, 3]
    np.testing.assert_array_equal(space(IMAGES.copy()), first)
    assert seen == [PART, 3]
    np.testing.assert_allclose(first[:, 0], IMAGES.mean(axis=(1, 2)), rtol=1e-6)
    space(IMAGES + 1)
    assert len(seen) == 4


def test_another_function_has_another_key(cache):
    counting("one")[0](IMAGES)
    space, seen = counting("two")
    space(IMAGES)
    assert seen == [PART, 3]


def test_what_was_done_before_a_kill_is_kept(cache):
    space, _ = counting()
    space(IMAGES[:PART])
    again, seen = counting()
    again(IMAGES)
    assert seen == [3]


def test_a_broken_file_is_made_again(cache):
    space, seen = counting()
    first = space(IMAGES[:2])
    for file in cache.iterdir():
        file.write_bytes(b"broken")
    np.testing.assert_array_equal(space(IMAGES[:2]), first)
    assert seen == [2, 2]


@pytest.mark.parametrize(
    "wrong",
    [lambda images: images, lambda images: np.full((len(images), 2), np.nan), lambda images: np.ones((1, 2))],
    ids=["of pixels", "not finite", "too few"],
)
def test_features_that_are_none_are_refused_and_not_kept(cache, wrong):
    with pytest.raises(ModelError, match=r"features, wrong: expected finite ones \[3, D\]"):
        FeatureSpace("wrong", wrong, Console(quiet=True))(np.zeros((3, 16, 16), np.float32))
    assert not list(cache.rglob("*.npy"))


def test_texture(cache):
    assert texture_space(Console(quiet=True))(IMAGES[:3]).shape == (3, 40)


def test_features_of_a_segmenter(cache, tmp_path, monkeypatch, usual_precision):
    import keras

    from mammogan_tf.evaluation.encoders import segmenter_space
    from mammogan_tf.models.unet import build_unet

    network = build_unet(16, widths=(4, 6))
    network.save(tmp_path / "model.keras")
    features = segmenter_space(tmp_path / "model.keras", Console(quiet=True))(IMAGES[:3])
    assert features.shape == (3, 6)
    assert np.ptp(features, axis=0).max() > 0
    bottom = keras.Model(network.input, network.get_layer("up0_a_conv").input[0])
    np.testing.assert_allclose(features, bottom(IMAGES[:3, ..., None]).numpy().mean(axis=(1, 2)), atol=1e-6)
    monkeypatch.setenv("MAMMOGAN_CACHE", str(tmp_path / "another"))
    keras.config.set_dtype_policy("mixed_bfloat16")  # As an evaluation U-Net that was trained on a GPU leaves it.
    again = segmenter_space(tmp_path / "model.keras", Console(quiet=True))
    for _ in ("computed", "read"):
        np.testing.assert_array_equal(again(IMAGES[:3]), features, strict=True)


def test_another_segmenter_in_the_same_place_has_other_features(cache, tmp_path):
    from mammogan_tf.evaluation.encoders import segmenter_space
    from mammogan_tf.models.unet import build_unet

    features = []
    for _ in range(2):
        build_unet(16, widths=(4, 6)).save(tmp_path / "model.keras")
        features.append(segmenter_space(tmp_path / "model.keras", Console(quiet=True))(IMAGES[:3]))
    assert (features[0] != features[1]).any()


def test_without_weights_and_without_network(tmp_path, monkeypatch, capsys):
    from mammogan_tf.evaluation import encoders

    def no_network(**arguments):
        raise OSError("URL fetch failure: Name or service not known\nand more")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(encoders.keras.applications, "InceptionV3", no_network)
    with pytest.raises(
        ModelError, match=r"or a connection to download them, received: URL fetch failure.*; put"
    ) as error:
        encoders.inception_space(Console())
    assert "\n" not in str(error.value)
    assert "downloading the weights of Inception-v3" in capsys.readouterr().err


def test_what_inception_is_given(cache, monkeypatch):
    from mammogan_tf.evaluation import encoders

    class Means:
        """Stands in for the network: the range and size of what it is given are what matters."""

        layers = ()

        def __call__(self, images, training):
            assert images.shape[1:] == (encoders.INCEPTION_SIZE, encoders.INCEPTION_SIZE, 3)
            assert -1 <= float(np.min(images)) < 0 < float(np.max(images)) <= 1
            return np.mean(images, axis=(1, 2))

    monkeypatch.setattr(encoders.keras.applications, "InceptionV3", lambda **arguments: Means())
    assert encoders.inception_space(Console(quiet=True))(IMAGES[:2]).shape == (2, 3)


def test_inception_computes_in_float32(cache, monkeypatch, usual_precision):
    import keras

    from mammogan_tf.evaluation import encoders

    def means(**arguments):
        image = keras.Input((None, None, 3))
        return keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))

    monkeypatch.setattr(encoders.keras.applications, "InceptionV3", means)
    features = []
    for policy in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        monkeypatch.setenv("MAMMOGAN_CACHE", str(cache / policy))
        features.append(encoders.inception_space(Console(quiet=True))(IMAGES[:2]))
    np.testing.assert_array_equal(*features)
