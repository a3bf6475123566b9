import io
import json
import struct
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import prediction_log_pb2

from mammogan_tf.config import DataConfig, GANConfig, UNetConfig
from mammogan_tf.data.splits import Split
from mammogan_tf.errors import ModelError
from mammogan_tf.models.dcgan import seeded_noise
from mammogan_tf.models.unet import build_unet
from mammogan_tf.serving.export import export_generator, export_run, export_unet
from mammogan_tf.serving.signatures import decode_film
from mammogan_tf.training.run import Run

SIZE, Z_DIM = 16, 8


@pytest.fixture(scope="module")
def unet(exported):
    return tf.saved_model.load(str(exported / "unet" / "1"))


@pytest.fixture(scope="module")
def generator(exported):
    return tf.saved_model.load(str(exported / "generator" / "1"))


def png_bytes(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def seeded(generator, seeds, label_maps, labels):
    inputs = {"seed": np.int64(seeds), "label_map": np.int32(label_maps), "label": np.int32(labels)}
    return generator.signatures["generate_seeded"](**{name: tf.constant(value) for name, value in inputs.items()})


@pytest.mark.parametrize("batch", [1, 3])
def test_unet_gives_the_live_output(unet, live_unet, films, batch):
    answer = unet.signatures["serving_default"](image=tf.constant(films[:batch, ..., None]))
    expected = live_unet(films[:batch, ..., None], training=False).numpy()
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)
    np.testing.assert_array_equal(answer["label_map"], expected.argmax(-1))


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


def test_the_png_holds_the_image_and_says_that_it_is_synthetic(generator, condition):
    answer = seeded(generator, *condition)
    with Image.open(io.BytesIO(answer["png"][0].numpy())) as image:
        assert (image.mode, image.size) == ("L", (SIZE, SIZE))
        assert image.info["Synthetic"] == "true"
        assert "never for diagnosis" in image.info["Comment"]
        np.testing.assert_array_equal(np.asarray(image), np.rint(answer["image"][0, ..., 0].numpy() * 255))


def test_names_and_types_are_the_contract(exported):
    films = {"dtype": "float32", "shape": [None, SIZE, SIZE, 1]}
    label_map = {"dtype": "int32", "shape": [None, SIZE, SIZE]}
    label = {"dtype": "int32", "shape": [None]}
    segmentation = {"probabilities": {"dtype": "float32", "shape": [None, SIZE, SIZE, 5]}, "label_map": label_map}
    png = {"dtype": "string", "shape": [None]}
    contract = json.loads((exported / "unet" / "1" / "signature.json").read_text())
    assert contract["signatures"] == {
        "serving_default": {"inputs": {"image": films}, "outputs": segmentation},
        "segment_png": {"inputs": {"png": png}, "outputs": segmentation},
    }
    contract = json.loads((exported / "generator" / "1" / "signature.json").read_text())
    noise, seed = {"dtype": "float32", "shape": [None, Z_DIM]}, {"dtype": "int64", "shape": [None]}
    assert contract["signatures"] == {
        "serving_default": {
            "inputs": {"noise": noise, "label_map": label_map, "label": label},
            "outputs": {"image": films},
        },
        "generate_seeded": {
            "inputs": {"seed": seed, "label_map": label_map, "label": label},
            "outputs": {"image": films, "png": png},
        },
    }


def test_signature_json_says_what_the_saved_model_holds(exported):
    for model in ("unet", "generator"):
        contract = json.loads((exported / model / "1" / "signature.json").read_text())
        signatures = tf.saved_model.load(str(exported / model / "1")).signatures
        assert set(signatures) == set(contract["signatures"])
        for name, function in signatures.items():
            specs = {"inputs": function.structured_input_signature[1], "outputs": function.structured_outputs}
            for side, tensors in specs.items():
                found = {key: {"dtype": s.dtype.name, "shape": s.shape.as_list()} for key, s in tensors.items()}
                assert found == contract["signatures"][name][side]


def test_runs_in_a_session_as_tensorflow_serving_runs_it(exported, unet, films):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(exported / "unet" / "1"))
        signature = meta.signature_def["serving_default"]
        image, answer = signature.inputs["image"].name, signature.outputs["probabilities"].name
        probabilities = session.run(answer, {image: films[..., None]})
    expected = unet.signatures["serving_default"](image=tf.constant(films[..., None]))["probabilities"]
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


def test_a_network_trained_in_bfloat16_is_exported_in_float32(tmp_path, live_unet, films):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        trained = build_unet(SIZE, widths=(4, 8))
    finally:
        keras.config.set_dtype_policy("float32")
    trained.set_weights(live_unet.get_weights())
    version = export_unet(trained, tmp_path)
    answer = tf.saved_model.load(str(version)).signatures["serving_default"](image=tf.constant(films[..., None]))
    exact = live_unet(films[..., None], training=False)
    np.testing.assert_allclose(answer["probabilities"], exact, atol=1e-6)
    assert np.abs(trained(films[..., None]) - exact).max() > 1e-4
    assert trained.layers[1].compute_dtype == "bfloat16"  # The live model is left as it was.


def test_every_png_kind_is_read_alike():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    kinds = [grey, np.stack([grey] * 3, -1), grey.astype(np.uint16) * 257]
    for pixels in kinds:
        np.testing.assert_allclose(decode_film(tf.constant(png_bytes(pixels)), 8)[..., 0], grey / 255, atol=1e-6)


def test_a_wide_png_keeps_its_proportions():
    # 4 rows of 8 pixels into 4 x 4: the upper 2 rows hold means of 2 x 2, the rest is black.
    pixels = np.arange(32, dtype=np.uint8).reshape(4, 8) * 8
    film = decode_film(tf.constant(png_bytes(pixels)), 4)[..., 0].numpy()
    assert film[0, 0] == pytest.approx((0 + 8 + 64 + 72) / 4 / 255)
    assert film[1, 3] == pytest.approx((22 + 23 + 30 + 31) * 8 / 4 / 255)
    assert (film[2:] == 0).all()


def test_segment_png_is_segment_on_the_decoded_film(unet, films):
    grey = np.rint(films * 255).astype(np.uint8)
    from_png = unet.signatures["segment_png"](png=tf.constant([png_bytes(film) for film in grey]))
    from_array = unet.signatures["serving_default"](image=tf.constant(np.float32(grey[..., None] / 255)))
    np.testing.assert_allclose(from_png["probabilities"], from_array["probabilities"], atol=1e-5)


def bomb() -> bytes:
    """A PNG whose header announces 2^15 x 2^15 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 2**15, 2**15, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + b"\0" * 20


@pytest.mark.parametrize(
    ("png", "message"), [(b"", "PNG file"), (b"GIF89a" * 9, "PNG file"), (bomb(), "pixels"), (bomb()[:40], "pixels")]
)
def test_bytes_that_are_no_film_are_refused(unet, png, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        unet.signatures["segment_png"](png=tf.constant([png]))


def test_a_truncated_png_is_refused(unet):
    png = png_bytes(np.zeros((64, 64), np.uint8))
    with pytest.raises(tf.errors.InvalidArgumentError):
        unet.signatures["segment_png"](png=tf.constant([png[:60]]))


@pytest.mark.parametrize("value", [-1, 5])
def test_a_class_or_label_out_of_range_is_refused(generator, condition, value):
    seeds, label_maps, labels = condition
    wrong = label_maps.copy()
    wrong[0, 0, 0] = value
    with pytest.raises(tf.errors.InvalidArgumentError, match="label_map: expected values 0-4"):
        seeded(generator, seeds, wrong, labels)
    with pytest.raises(tf.errors.InvalidArgumentError, match="label: expected values 0-2"):
        seeded(generator, seeds, label_maps, [0, 0, value])


def test_uneven_batches_are_refused(generator, condition):
    seeds, label_maps, labels = condition
    with pytest.raises(tf.errors.InvalidArgumentError, match="one label_map and one label"):
        seeded(generator, seeds[:2], label_maps, labels)


def test_warm_up_requests_cover_every_signature(exported):
    for model in ("unet", "generator"):
        version = exported / model / "1"
        records = tf.data.TFRecordDataset(str(version / "assets.extra" / "tf_serving_warmup_requests"))
        requests = [
            prediction_log_pb2.PredictionLog.FromString(r).predict_log.request for r in records.as_numpy_iterator()
        ]
        signatures = tf.saved_model.load(str(version)).signatures
        assert {request.model_spec.signature_name for request in requests} == set(signatures)
        for request in requests:
            inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
            assert all(value.shape[0] == 1 for value in inputs.values())
            signatures[request.model_spec.signature_name](**inputs)


def test_versions_count_up_and_leave_nothing_beside_them(tmp_path, live_unet):
    (tmp_path / "unet" / "7").mkdir(parents=True)
    assert export_unet(live_unet, tmp_path, card="# A card") == tmp_path / "unet" / "8"
    assert sorted(path.name for path in (tmp_path / "unet").iterdir()) == ["7", "8"]
    card = (tmp_path / "unet" / "8" / "MODEL_CARD.md").read_text()
    assert card.startswith("# A card\n")
    assert "`segment_png`" in card


def test_an_export_that_fails_leaves_nothing(tmp_path, live_generator):
    with pytest.raises(ModelError, match="room for an export"):
        export_generator(live_generator, tmp_path, masks=tmp_path / "absent.npz")
    assert list((tmp_path / "generator").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="received: Not a directory"):
        export_generator(live_generator, tmp_path / "file")


def test_export_run_takes_network_card_and_masks_from_the_run(tmp_path, live_unet, live_generator):
    split, data = Split(("a",), ("b",), ("c",)), DataConfig(size=SIZE)
    run = Run.create(tmp_path, UNetConfig(data=data, widths=(4, 8)), split, tmp_path)
    with pytest.raises(ModelError, match="finished run"):
        export_run(run.path, tmp_path / "to")
    live_unet.save(run.model_path)
    (run.path / "MODEL_CARD.md").write_text("# U-Net of this run\n")
    version = export_run(run.path, tmp_path / "to")
    assert version == tmp_path / "to" / "unet" / "1"
    assert (version / "MODEL_CARD.md").read_text().startswith("# U-Net of this run\n")

    run = Run.create(tmp_path, GANConfig(data=data, z_dim=Z_DIM), split, tmp_path)
    live_generator.save(run.model_path)
    label_maps = np.zeros((2, SIZE, SIZE), np.uint8)
    np.savez(run.path / "masks.npz", label_maps=label_maps, labels=np.int32([0, 1]), ids=np.array(["x", "y"]))
    version = export_run(run.path, tmp_path / "to")
    assert version == tmp_path / "to" / "generator" / "1"
    with np.load(version / "assets.extra" / "masks.npz") as masks:
        np.testing.assert_array_equal(masks["label_maps"], label_maps)
