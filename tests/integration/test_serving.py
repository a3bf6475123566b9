"""The serving contract over real gRPC, asked of the embedded server or of any other at MAMMOGAN_SERVING=host:port."""

import os

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

LIMIT = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The server under test; without one named, an embedded one with tiny untrained networks."""
    if named := os.environ.get("MAMMOGAN_SERVING"):
        yield named
        return
    import keras

    from mammogan_tf.models.dcgan import build_generator
    from mammogan_tf.models.unet import build_unet
    from mammogan_tf.serving.export import export_generator, export_synthesize, export_unet
    from mammogan_tf.serving.server import Server

    models = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(0)
    unet, generator = build_unet(16, widths=(4, 8)), build_generator(16, z_dim=8, widths=(8, 4, 4))
    export_unet(unet, models)
    export_generator(generator, models)
    export_synthesize(unet, generator, models)
    with Server(models, port=0) as server:
        yield server.address


@pytest.fixture(scope="module")
def channel(address):
    with grpc.insecure_channel(address, LIMIT) as channel:
        yield channel


@pytest.fixture(scope="module")
def prediction(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def status(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


def signatures(prediction, model):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = model
    metadata = prediction.GetModelMetadata(request).metadata["signature_def"]
    unpacked = get_model_metadata_pb2.SignatureDefMap()
    assert metadata.Unpack(unpacked)
    return unpacked.signature_def


@pytest.fixture(scope="module")
def size(prediction):
    return signatures(prediction, "unet")["serving_default"].inputs["image"].tensor_shape.dim[1].size


@pytest.fixture(scope="module")
def z_dim(prediction):
    return signatures(prediction, "generator")["serving_default"].inputs["noise"].tensor_shape.dim[1].size


@pytest.fixture
def films(size):
    return np.random.default_rng(0).random((2, size, size, 1), np.float32)


@pytest.fixture
def condition(size):
    label_map = np.random.default_rng(0).integers(0, 5, (3, size, size), np.int32)
    return {"seed": np.int64([3, 4, 5]), "label_map": label_map, "label": np.int32([0, 1, 2])}


def request_for(model, inputs, signature="", outputs=()):
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def ask(prediction, *arguments, **options):
    response = prediction.Predict(request_for(*arguments, **options))
    return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}


def code_of(call, request):
    with pytest.raises(grpc.RpcError) as error:
        call(request)
    return error.value.code().name


def test_unet_answers_with_probabilities_and_label_map(prediction, films, size):
    answer = ask(prediction, "unet", {"image": films})
    assert set(answer) == {"probabilities", "label_map"}
    assert answer["probabilities"].dtype == np.float32
    assert answer["label_map"].dtype == np.int32
    assert answer["probabilities"].shape == (2, size, size, 5)
    np.testing.assert_allclose(answer["probabilities"].sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(answer["label_map"], answer["probabilities"].argmax(-1))


def test_the_batch_is_free(prediction, films):
    both, one = ask(prediction, "unet", {"image": films}), ask(prediction, "unet", {"image": films[1:]})
    np.testing.assert_allclose(both["probabilities"][1], one["probabilities"][0], atol=1e-5)


@pytest.fixture
def pngs(films):
    return np.array([tf.io.encode_png(film).numpy() for film in np.rint(films * 255).astype(np.uint8)], object)


def test_png_and_array_agree(prediction, films, pngs):
    """Where the network finds the chest wall on the right, the PNG is segmented as its mirror image."""
    grey = np.float32(np.rint(films * 255) / 255)
    from_png = ask(prediction, "unet", {"png": pngs}, "segment_png")["probabilities"]
    as_it_is = ask(prediction, "unet", {"image": grey})["probabilities"]
    mirrored = ask(prediction, "unet", {"image": grey[:, :, ::-1]})["probabilities"][:, :, ::-1]
    for answer, expected in zip(from_png, zip(as_it_is, mirrored, strict=True), strict=True):
        assert min(np.abs(answer - each).max() for each in expected) < 1e-4


def test_a_film_becomes_a_new_one_of_its_anatomy(prediction, pngs, size):
    inputs = {"png": pngs, "seed": np.int64([1, 2])}
    answer = ask(prediction, "synthesize", inputs)
    assert answer["label_map"].shape == (2, size, size)
    assert set(np.unique(answer["label_map"])) <= {0, 1, 2, 3}, "no lesions"
    assert answer["image"].shape == (2, size, size, 1)
    again = ask(prediction, "synthesize", {"png": pngs[1:], "seed": np.int64([2])})
    np.testing.assert_allclose(again["image"][0], answer["image"][1], atol=1e-5)
    no_lesion = ask(prediction, "synthesize", inputs | {"lesion": np.float32([[0.5, 0.5, 0]] * 2)}, "with_lesion")
    np.testing.assert_allclose(no_lesion["image"], answer["image"], atol=1e-5)


def test_a_seed_gives_the_same_film_whatever_else_is_in_the_batch(prediction, condition):
    together = ask(prediction, "generator", condition, "generate_seeded")
    alone = ask(prediction, "generator", {k: v[1:2] for k, v in condition.items()}, "generate_seeded")
    np.testing.assert_allclose(together["image"][1], alone["image"][0], atol=1e-5)
    png = tf.io.decode_png(together["png"][1]).numpy()
    np.testing.assert_allclose(png / 255, together["image"][1], atol=0.5 / 255 + 1e-6)


def test_noise_may_be_the_clients_own(prediction, condition, z_dim):
    noise = np.random.default_rng(0).standard_normal((3, z_dim)).astype(np.float32)
    inputs = {"noise": noise, "label_map": condition["label_map"], "label": condition["label"]}
    image = ask(prediction, "generator", inputs)["image"]
    assert image.shape == (*condition["label_map"].shape, 1)
    assert 0 <= image.min() <= image.max() <= 1


def test_typed_fields_and_tensor_content_mean_the_same(prediction, films):
    packed = request_for("unet", {"image": films})
    assert packed.inputs["image"].tensor_content
    typed = request_for("unet", {})
    typed.inputs["image"].dtype = tf.float32.as_datatype_enum
    typed.inputs["image"].tensor_shape.CopyFrom(packed.inputs["image"].tensor_shape)
    typed.inputs["image"].float_val.extend(films.ravel().tolist())
    assert prediction.Predict(packed).outputs == prediction.Predict(typed).outputs
    constant = request_for("unet", {})
    constant.inputs["image"].CopyFrom(typed.inputs["image"])
    constant.inputs["image"].ClearField("float_val")
    constant.inputs["image"].float_val.append(0.5)
    expected = ask(prediction, "unet", {"image": np.full_like(films, 0.5)})["probabilities"]
    answer = tf.make_ndarray(prediction.Predict(constant).outputs["probabilities"])
    np.testing.assert_allclose(answer, expected, atol=1e-6)


def test_strings_may_be_packed(prediction):
    png = tf.io.encode_png(np.zeros((4, 4, 1), np.uint8)).numpy()
    request = request_for("unet", {"png": np.array([png, png], object)}, "segment_png")
    typed = prediction.Predict(request)
    del request.inputs["png"].string_val[:]
    request.inputs["png"].tensor_content = bytes([len(png)] * 2) + png * 2
    assert prediction.Predict(request).outputs == typed.outputs


def test_answers_are_in_the_typed_fields(prediction, films, size):
    outputs = prediction.Predict(request_for("unet", {"image": films})).outputs
    assert len(outputs["probabilities"].float_val) == 2 * size * size * 5
    assert len(outputs["label_map"].int_val) == 2 * size * size


def test_the_output_filter_chooses(prediction, films):
    assert set(ask(prediction, "unet", {"image": films}, outputs=["label_map"])) == {"label_map"}


def test_the_answer_names_model_version_and_signature(prediction, films):
    spec = prediction.Predict(request_for("unet", {"image": films})).model_spec
    assert (spec.name, spec.signature_name) == ("unet", "serving_default")
    request = request_for("unet", {"image": films})
    request.model_spec.version.value = spec.version.value
    assert prediction.Predict(request).model_spec.version == spec.version


def test_metadata_describe_the_contract(prediction):
    def names(tensors):
        return {key: (value.dtype, len(value.tensor_shape.dim)) for key, value in tensors.items()}

    floating, integer, long, string = (kind.as_datatype_enum for kind in (tf.float32, tf.int32, tf.int64, tf.string))
    segmentation = {"probabilities": (floating, 4), "label_map": (integer, 3)}
    unet, generator = signatures(prediction, "unet"), signatures(prediction, "generator")
    assert names(unet["serving_default"].inputs) == {"image": (floating, 4)}
    assert names(unet["segment_png"].inputs) == {"png": (string, 1)}
    assert names(unet["serving_default"].outputs) == names(unet["segment_png"].outputs) == segmentation
    condition = {"label_map": (integer, 3), "label": (integer, 1)}
    assert names(generator["serving_default"].inputs) == {"noise": (floating, 2), **condition}
    assert names(generator["generate_seeded"].inputs) == {"seed": (long, 1), **condition}
    assert names(generator["generate_seeded"].outputs) == {"image": (floating, 4), "png": (string, 1)}


def test_the_status_is_available(status):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "unet"
    newest = status.GetModelStatus(request).model_version_status[0]
    assert newest.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
    request.model_spec.version.value = 10**9
    assert code_of(status.GetModelStatus, request) == "NOT_FOUND"
    request.model_spec.name = "absent"
    assert code_of(status.GetModelStatus, request) == "NOT_FOUND"


def changed(request, change):
    change(request)
    return request


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda r: setattr(r.model_spec, "name", "absent"), "NOT_FOUND"),
        (lambda r: setattr(r.model_spec, "name", "../unet"), "NOT_FOUND"),
        (lambda r: setattr(r.model_spec.version, "value", 10**9), "NOT_FOUND"),
        (lambda r: setattr(r.model_spec.version, "value", -1), "NOT_FOUND"),
        (lambda r: setattr(r.model_spec, "version_label", "canary"), "INVALID_ARGUMENT"),
        (lambda r: r.model_spec.ClearField("name"), "INVALID_ARGUMENT"),
        (lambda r: r.ClearField("model_spec"), "INVALID_ARGUMENT"),
        (lambda r: setattr(r.model_spec, "signature_name", "absent"), "FAILED_PRECONDITION"),
        (lambda r: r.inputs.clear(), "INVALID_ARGUMENT"),
        (lambda r: r.inputs["extra"].CopyFrom(r.inputs["image"]), "INVALID_ARGUMENT"),
        (lambda r: r.output_filter.append("absent"), "INVALID_ARGUMENT"),
        (lambda r: r.output_filter.extend(["label_map", "label_map"]), "INVALID_ARGUMENT"),
        (
            lambda r: r.inputs["image"].CopyFrom(tf.make_tensor_proto(np.zeros((1, 4, 4, 1), np.float32))),
            "INVALID_ARGUMENT",
        ),
        (lambda r: r.inputs["image"].CopyFrom(tf.make_tensor_proto(np.zeros(4, np.float32))), "INVALID_ARGUMENT"),
        (lambda r: r.inputs["image"].CopyFrom(tf.make_tensor_proto(["text"])), "INVALID_ARGUMENT"),
        (lambda r: setattr(r.inputs["image"], "tensor_content", b"short"), "INVALID_ARGUMENT"),
        (lambda r: setattr(r.inputs["image"].tensor_shape.dim[0], "size", -5), "INVALID_ARGUMENT"),
    ],
)
def test_bad_requests_get_the_code_of_tensorflow_serving(prediction, films, change, code):
    assert code_of(prediction.Predict, changed(request_for("unet", {"image": films}), change)) == code
    assert ask(prediction, "unet", {"image": films}), "the server goes on"


@pytest.mark.parametrize("length", [2000, 10**6])
def test_a_long_name_does_not_crowd_out_the_status(prediction, length):
    assert code_of(prediction.Predict, request_for("é" * length, {})) == "NOT_FOUND"


def test_wrong_dtype_is_refused(prediction, films):
    assert code_of(prediction.Predict, request_for("unet", {"image": films.astype(np.float64)})) == "INVALID_ARGUMENT"


@pytest.mark.parametrize("png", [b"", b"not a film", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_bytes_that_are_no_film_are_refused(prediction, png):
    request = request_for("unet", {"png": np.array([png], object)}, "segment_png")
    assert code_of(prediction.Predict, request) == "INVALID_ARGUMENT"


@pytest.mark.parametrize(("name", "value"), [("label_map", 5), ("label_map", -1), ("label", 3), ("label", -1)])
def test_classes_and_labels_out_of_range_are_refused(prediction, condition, name, value):
    condition[name].flat[0] = value
    assert code_of(prediction.Predict, request_for("generator", condition, "generate_seeded")) == "INVALID_ARGUMENT"


def test_films_that_are_no_numbers_do_no_harm(prediction, films):
    films[0, 0, 0] = np.nan
    films[1, 0, 0] = np.inf
    assert ask(prediction, "unet", {"image": films})["label_map"].shape == films.shape[:3]


@pytest.mark.skipif("MAMMOGAN_SERVING" in os.environ, reason="TensorFlow Serving has no such limits by default")
def test_limits_of_the_embedded_server(prediction, films):
    too_long = request_for("unet", {"image": films})
    too_long.inputs["image"].tensor_content = b"\0" * (65 * 2**20)
    assert code_of(prediction.Predict, too_long) == "RESOURCE_EXHAUSTED"
    unfolding = request_for("unet", {})
    unfolding.inputs["image"].CopyFrom(tf.make_tensor_proto(films[:1]))
    unfolding.inputs["image"].ClearField("tensor_content")
    unfolding.inputs["image"].float_val.append(0)
    unfolding.inputs["image"].tensor_shape.dim[0].size = 2**40
    assert code_of(prediction.Predict, unfolding) == "RESOURCE_EXHAUSTED"
    strings = request_for("unet", {"png": np.array([b""], object)}, "segment_png")
    strings.inputs["png"].tensor_shape.dim[0].size = 2**20
    assert code_of(prediction.Predict, strings) == "INVALID_ARGUMENT"


@pytest.mark.skipif("MAMMOGAN_SERVING" in os.environ, reason="TensorFlow Serving answers these by its own lights")
def test_the_other_methods_are_unimplemented(prediction):
    assert code_of(prediction.Classify, classification_pb2.ClassificationRequest()) == "UNIMPLEMENTED"
    assert code_of(prediction.Regress, regression_pb2.RegressionRequest()) == "UNIMPLEMENTED"
    assert code_of(prediction.MultiInference, inference_pb2.MultiInferenceRequest()) == "UNIMPLEMENTED"


def test_metadata_of_what_is_not_there_are_refused(prediction):
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "unet"
    assert code_of(prediction.GetModelMetadata, request) == "INVALID_ARGUMENT"
    request.metadata_field.append("weights")
    assert code_of(prediction.GetModelMetadata, request) == "INVALID_ARGUMENT"
    request.metadata_field[0] = "signature_def"
    request.model_spec.name = "absent"
    assert code_of(prediction.GetModelMetadata, request) == "NOT_FOUND"
