import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictResponse

from mammogan_tf.errors import ServingError
from mammogan_tf.serving import predict_requests


def test_chunks_stay_below_the_limit(monkeypatch):
    monkeypatch.setattr(predict_requests, "CHUNK_BYTES", 10)
    expected = [slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 5)]
    assert list(predict_requests.chunks([4, 4, 4, 20, 1])) == expected


def test_chunks_hold_a_number_of_films_at_most(monkeypatch):
    monkeypatch.setattr(predict_requests, "CHUNK_EXAMPLES", 2)
    assert list(predict_requests.chunks([1] * 5)) == [slice(0, 2), slice(2, 4), slice(4, 5)]


@pytest.mark.parametrize("given", [list, np.array], ids=["list", "array"])
def test_the_requests_hold_every_film_once_and_in_order(monkeypatch, given):
    monkeypatch.setattr(predict_requests, "CHUNK_EXAMPLES", 2)
    call = predict_requests.synthesize(given([b"a", b"b", b"c"]), [7, 8, 9], [(0, 0, 0), (0.5, 0.5, 0.1), (1, 1, 1)])
    requests = [call.request(chunk) for chunk in predict_requests.chunks(call.costs)]
    assert [request.model_spec.signature_name for request in requests] == ["with_lesion", "with_lesion"]
    sent = {
        name: np.concatenate([tf.make_ndarray(request.inputs[name]) for request in requests])
        for name in ("png", "seed", "lesion")
    }
    assert sent["png"].tolist() == [b"a", b"b", b"c"]
    assert sent["seed"].tolist() == [7, 8, 9]
    np.testing.assert_allclose(sent["lesion"], [(0, 0, 0), (0.5, 0.5, 0.1), (1, 1, 1)])


@pytest.mark.parametrize("packed", [True, False], ids=["tensor_content", "typed fields"])
def test_answers_are_read_from_either_encoding(packed):
    films = np.random.default_rng(0).random((2, 4, 4, 1), np.float32)
    response = PredictResponse()
    response.outputs["image"].CopyFrom(tf.make_tensor_proto(films))
    if not packed:
        response.outputs["image"].ClearField("tensor_content")
        response.outputs["image"].float_val.extend(films.ravel().tolist())
    call = predict_requests.generate([1, 2], np.zeros((2, 4, 4)), [0, 0])
    np.testing.assert_array_equal(call.answer([response, response]), np.concatenate([films, films])[..., 0])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: predict_requests.segment([]), "segment: expected one film or more"),
        (lambda: predict_requests.segment(np.zeros((0, 4, 4))), "segment: expected one film or more"),
        (
            lambda: predict_requests.segment(np.uint8([[[0, 255]]])),
            r"films: expected values in \[0, 1\], received: 0 to 255; divide bytes by 255",
        ),
        (lambda: predict_requests.segment(np.full((1, 4, 4), -0.5)), "received: -0.5 to -0.5"),
        (lambda: predict_requests.segment(np.array([[[0, np.nan]]])), "received: nan to nan"),
        (lambda: predict_requests.segment(np.array([[[0, np.inf]]])), "received: 0 to inf"),
        (
            lambda: predict_requests.segment([np.zeros((4, 4))]),
            r"an array \[N, S, S\] or PNG .* in a list, received: ndarray",
        ),
        (
            lambda: predict_requests.segment(np.zeros((1, 4, 4)).tolist()),
            "PNG files as bytes in a list, received: list",
        ),
        (lambda: predict_requests.segment([b"a", "b.png"]), "PNG files as bytes in a list, received: str"),
        (lambda: predict_requests.segment(b"png"), "PNG files as bytes in a list, received: bytes"),
        (lambda: predict_requests.segment(3), "PNG files as bytes in a list, received: int"),
        (
            lambda: predict_requests.segment(np.array(0.5)),
            "films: expected numbers that float32 holds, received: one alone",
        ),
        (
            lambda: predict_requests.segment(np.array([b"png", 3], object)),
            "PNG files as bytes in a list, received: int",
        ),
        (lambda: predict_requests.segment(np.zeros((1, 0, 0))), "segment: expected one film or more, received: none"),
        (lambda: predict_requests.segment([b"a"], True), "version: expected a whole number .*, received: True"),
        (
            lambda: predict_requests.synthesize(b"png", [1]),
            "synthesize: expected PNG files as bytes in a list, received: bytes",
        ),
        (lambda: predict_requests.synthesize([np.zeros(4)], [1]), "PNG files as bytes in a list, received: ndarray"),
        (
            lambda: predict_requests.synthesize([b"a"], 1),
            "seeds: expected numbers that int64 holds, received: one alone",
        ),
        (lambda: predict_requests.generate(1, np.zeros((1, 4, 4)), [0]), "seeds: expected numbers that int64 holds"),
        (lambda: predict_requests.generate([1], np.zeros((1, 4, 4)), 0), "labels: expected numbers that int32 holds"),
        (
            lambda: predict_requests.segment([b"a"], 2**63),
            "version: expected a whole number .*, received: 9223372036854775808",
        ),
        (lambda: predict_requests.segment([b"a"], "1"), "version: expected a whole number .*, received: '1'"),
        (lambda: predict_requests.synthesize([], []), "synthesize: expected one film or more"),
        (lambda: predict_requests.generate([], np.zeros((0, 4, 4)), []), "0 seeds, 0 label maps, 0 labels"),
        (lambda: predict_requests.generate([1], np.zeros((2, 4, 4)), [1]), "1 seeds, 2 label maps, 1 labels"),
        (lambda: predict_requests.synthesize([b"a"], [1, 2]), "1 films, 2 seeds"),
        (lambda: predict_requests.synthesize([b"a"], [1], []), "1 films, 1 seeds, 0 lesions"),
        (lambda: predict_requests.generate([1.9], np.zeros((1, 4, 4)), [0]), "that int64 holds, received: 1.9"),
        (
            lambda: predict_requests.generate([1], np.full((1, 4, 4), 2**32), [0]),
            "label maps: expected numbers that int32 holds",
        ),
        (
            lambda: predict_requests.generate(["1" * 500 + "x"], np.zeros((1, 4, 4)), [0]),
            "int64 holds, received: .{100}$",
        ),
        (
            lambda: predict_requests.generate([2**63], np.zeros((1, 4, 4)), [0]),
            "seeds: expected numbers that int64 holds",
        ),
    ],
)
def test_requests_that_make_no_sense_are_refused(ask, message):
    with pytest.raises(ServingError, match=message):
        ask()
