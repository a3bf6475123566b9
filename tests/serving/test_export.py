"""Networks in, versions out: from models in memory and from runs."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.config import CrossValidationConfig, DataConfig, GANConfig, UNetConfig
from mammogan_tf.data.splits import Split
from mammogan_tf.errors import ModelError
from mammogan_tf.models.unet import build_unet
from mammogan_tf.serving import export
from mammogan_tf.serving.export import export_runs, export_synthesize, export_unet
from mammogan_tf.training.checkpoint import compute_in_float32
from mammogan_tf.training.run import Run

SIZE, Z_DIM = 16, 8
WHOLE, REGIONS = DataConfig(size=SIZE), DataConfig(size=SIZE, view="roi")


def signature(version, name="serving_default"):
    loaded = tf.saved_model.load(str(version))
    function = loaded.signatures[name]
    function.keep_alive = loaded
    return function


def trained_in(policy, live_unet):
    """The U-Net as a training with this precision leaves it."""
    keras.config.set_dtype_policy(policy)
    try:
        trained = build_unet(SIZE, widths=(4, 8))
    finally:
        keras.config.set_dtype_policy("float32")
    trained.set_weights(live_unet.get_weights())
    return trained


@pytest.mark.parametrize(("policy", "rounding"), [("float32", 2**-23), ("mixed_bfloat16", 2**-8)])
def test_an_export_computes_in_float32_whatever_the_training_did(tmp_path, live_unet, films, policy, rounding):
    trained = trained_in(policy, live_unet)
    answer = signature(export_unet(trained, tmp_path))(image=tf.constant(films[..., None]))["probabilities"]
    in_training = np.asarray(trained(films[..., None], training=False), np.float32)
    assert np.abs(answer - in_training).max() < 16 * rounding  # Of sums over eight layers.
    assert trained.layers[1].compute_dtype == policy.removeprefix("mixed_")  # It is left as it was.
    in_use = compute_in_float32(trained)(films[..., None], training=False)
    np.testing.assert_allclose(answer, in_use, atol=1e-6)


def test_an_export_looks_at_windows_as_they_lie(tmp_path):
    """A whole film whose rows are longer to the right would be looked at mirrored."""
    image = keras.Input((SIZE, SIZE, 1))
    network = keras.Model(image, keras.layers.Conv2D(5, (1, 3), padding="same", activation="softmax")(image))
    kernel = np.zeros((1, 3, 1, 5))
    kernel[0, 1, 0, 1], kernel[0, :2, 0, 3] = 5, (-99, 9)  # Muscle is where the pixel to the left is black.
    network.set_weights([kernel, np.array([1, 0, 0, 0, 0])])
    film = np.triu(np.full((SIZE, SIZE), 200, np.uint8))[..., None]
    segment_png = signature(export_unet(network, tmp_path, view="roi"), "segment_png")
    label_map = segment_png(png=tf.io.encode_png(film)[None])["label_map"].numpy()[0]
    np.testing.assert_array_equal(label_map, np.triu(np.ones((SIZE, SIZE))) + 2 * np.eye(SIZE))


def test_synthesize_wants_networks_of_one_size(tmp_path, live_generator):
    with pytest.raises(ModelError, match="expected networks of one size, received: 32 and 16 px"):
        export_synthesize(build_unet(32, widths=(2, 2)), live_generator, tmp_path)


@pytest.fixture
def make_run(tmp_path, live_unet, live_generator):
    def make(config, network):
        run = Run.create(tmp_path, config, Split(("a",), ("b",), ("c",)), [tmp_path])
        network.save(run.model_path)
        (run.path / "MODEL_CARD.md").write_text(f"# {network.name} of this run\n\n## Dice\n")
        return run

    return make


@pytest.fixture
def unet_run_here(make_run, live_unet):
    return make_run(UNetConfig(data=DataConfig(size=SIZE), widths=(4, 8)), live_unet)


@pytest.fixture
def gan_run_here(make_run, live_generator):
    run = make_run(GANConfig(data=DataConfig(size=SIZE), z_dim=Z_DIM), live_generator)
    label_maps = np.zeros((2, SIZE, SIZE), np.uint8)
    np.savez(run.path / "masks.npz", label_maps=label_maps, labels=np.int32([0, 2]), ids=np.array(["x", "y"]))
    return run


def test_a_run_gives_network_card_and_masks(tmp_path, gan_run_here):
    version = export_runs([gan_run_here.path], tmp_path / "to")[0]
    assert version == tmp_path / "to" / "generator" / "1"
    card = (version / "MODEL_CARD.md").read_text()
    assert card.startswith("# generator of this run\n")
    assert "chest wall on the left" in card
    with np.load(version / "assets.extra" / "masks.npz") as masks:
        assert masks["label_maps"].shape == (2, SIZE, SIZE)


def test_what_runs_were_trained_on_travels_and_what_they_lack_does_not(tmp_path, make_run, live_unet, live_generator):
    configs = UNetConfig(data=REGIONS), GANConfig(data=REGIONS, labels=("benign", "malignant"))
    runs = [make_run(*pair) for pair in zip(configs, (live_unet, live_generator), strict=True)]
    for run in runs:
        run.card_path.unlink()
    versions = export_runs([run.path for run in runs], tmp_path / "to")
    unet, generator = (json.loads((version / "signature.json").read_text()) for version in versions)
    assert (unet["view"], generator["view"]) == ("roi", "roi")
    assert generator["trained_labels"] == ["benign", "malignant"]
    for version in versions:
        card = (version / "MODEL_CARD.md").read_text()
        assert card.startswith(f"# {version.parent.name}\n\nFor research and teaching; never for diagnosis.\n")
        assert "chest wall" not in card
        assert not (version / "assets.extra" / "masks.npz").exists()


def test_a_run_that_is_not_finished_is_refused(tmp_path, unet_run_here, gan_run_here):
    gan_run_here.model_path.write_bytes(b"half of it")
    with pytest.raises(ModelError, match=r"model\.keras: expected a trained network, received: a broken file"):
        export_runs([unet_run_here.path, gan_run_here.path], tmp_path / "to")
    gan_run_here.model_path.unlink()
    with pytest.raises(ModelError, match=r"run, received: one without model\.keras"):
        export_runs([unet_run_here.path, gan_run_here.path], tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_run_that_is_named_twice_is_refused(tmp_path, unet_run_here):
    with pytest.raises(ModelError, match=r"expected each run once, received: .*; leave one out"):
        export_runs([unet_run_here.path, unet_run_here.path / ".." / "00001"], tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_cross_validation_is_refused(tmp_path):
    run = Run.create(tmp_path, CrossValidationConfig(), Split((), (), ("a", "b")), [tmp_path])
    with pytest.raises(ModelError, match="a train-unet or train-gan run, received: a cross-validate run; export one"):
        export_runs([run.path], tmp_path / "to")


@pytest.mark.slow
def test_a_pair_also_makes_synthesize(tmp_path, unet_run_here, gan_run_here, drawn_films):
    versions = export_runs([gan_run_here.path, unet_run_here.path], tmp_path / "to")
    assert versions == [tmp_path / "to" / name / "1" for name in ("generator", "unet", "synthesize")]
    unet = (versions[1] / "MODEL_CARD.md").read_text()
    assert unet.startswith("# unet of this run\n")
    assert "An `image` needs the chest wall on the left" in unet
    card = (versions[-1] / "MODEL_CARD.md").read_text()
    headings = [line for line in card.splitlines() if line.startswith("#")]
    assert headings[0].startswith("# Synthesize")
    assert headings[1:] == ["## unet of this run", "### Dice", "## generator of this run", "### Dice", "## Serving"]
    answer = signature(versions[-1])(png=tf.constant(drawn_films), seed=tf.constant([1, 2, 3], tf.int64))
    assert answer["image"].shape == (3, SIZE, SIZE, 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (DataConfig(size=SIZE, keep_background=True), "keep_background, received: False and True"),
        (DataConfig(size=32), "size, received: 16 and 32"),
    ],
)
def test_a_pair_prepared_in_different_ways_is_refused(tmp_path, make_run, unet_run_here, live_generator, data, reason):
    other = make_run(GANConfig(data=data, z_dim=Z_DIM), live_generator)
    with pytest.raises(ModelError, match=f"alike in {reason}; export them one by one"):
        export_runs([unet_run_here.path, other.path], tmp_path / "to")
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    "configs",
    [
        [UNetConfig(data=REGIONS), GANConfig(data=REGIONS)],
        [UNetConfig(data=WHOLE), GANConfig(data=REGIONS)],
        [UNetConfig(data=WHOLE), GANConfig(data=WHOLE, labels=("benign", "malignant"))],
        [UNetConfig(data=WHOLE), GANConfig(data=WHOLE, labels=("malignant", "normal"))],
        [UNetConfig(data=WHOLE), UNetConfig(data=WHOLE), GANConfig(data=WHOLE)],
    ],
    ids=["regions", "films-and-regions", "no-normal-films", "no-benign-films", "two-unets"],
)
def test_some_networks_make_no_synthesize(configs, tmp_path, make_run, live_unet, live_generator, monkeypatch):
    networks = [live_generator if isinstance(config, GANConfig) else live_unet for config in configs]
    runs = [make_run(*pair) for pair in zip(configs, networks, strict=True)]
    monkeypatch.setattr(export, "export_unet", lambda *arguments, **options: "unet")
    monkeypatch.setattr(export, "export_generator", lambda *arguments, **options: "generator")
    monkeypatch.setattr(export, "export_synthesize", lambda *arguments, **options: "synthesize")
    expected = [network.name for network in networks]
    assert export.export_runs([run.path for run in runs], tmp_path / "to") == expected
