import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from mammogan_tf.serving.servable import Servable, _Signature
from mammogan_tf.serving.status_error import StatusError


@pytest.fixture(scope="module")
def servable(exported):
    return Servable(exported / "generator" / "1")


def seeded(seed, label, size=16):
    request = predict_pb2.PredictRequest(output_filter=["image"])
    request.model_spec.signature_name = "generate_seeded"
    label_map = np.random.default_rng(abs(seed)).integers(0, 5, (1, size, size), np.int32)
    inputs = {"seed": np.int64([seed]), "label_map": label_map, "label": np.int32([label])}
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def image(answer):
    return tf.make_ndarray(answer.outputs["image"])


def test_a_seed_gives_the_same_film_whatever_shares_its_pass(servable):
    jobs = [servable.job(seeded(seed, seed % 3)) for seed in range(5)]
    together = servable.answer(jobs)
    alone = [servable.answer([job])[0] for job in jobs]
    in_parts = servable.answer(jobs, most=2)
    for one, other, part in zip(alone, together, in_parts, strict=True):
        np.testing.assert_allclose(image(one), image(other), atol=1e-5)
        np.testing.assert_allclose(image(one), image(part), atol=1e-5)


def test_an_error_stays_with_the_request_that_caused_it(servable):
    bad = {2, 5}
    jobs = [servable.job(seeded(seed, 9 if seed in bad else 0)) for seed in range(7)]
    assert len({job.kind for job in jobs}) == 1
    for seed, answer in enumerate(servable.answer(jobs)):
        if seed in bad:
            assert answer.code.name == "INVALID_ARGUMENT"
            assert "label: expected values 0-2" in str(answer)
        else:
            np.testing.assert_allclose(image(answer), image(servable.answer([jobs[seed]])[0]), atol=1e-5)


def test_a_lesion_beside_the_breast_fails_alone(everything, drawn_films):
    servable = Servable(everything / "synthesize" / "1")

    def ask(radius):
        request = predict_pb2.PredictRequest(output_filter=["label_map"])
        request.model_spec.signature_name = "with_lesion"
        inputs = {"png": [drawn_films[2]], "seed": np.int64([1]), "lesion": np.float32([[0.5, 0.25, radius]])}  # Black.
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        return servable.job(request)

    *answers, refused, last = servable.answer([ask(radius) for radius in (0, 0, 0, 0.125, 0)])
    assert refused.code.name == "INVALID_ARGUMENT"
    assert str(refused) == "lesion: expected a place on the breast, received: [0.5 0.25 0.125]"
    assert not any(isinstance(answer, StatusError) for answer in [*answers, last])


def test_an_answer_over_the_limit_is_refused_after_its_first_part(servable, monkeypatch):
    monkeypatch.setattr("mammogan_tf.serving.servable.MESSAGE_LIMIT", 16 * 16 * 4)  # One film, or two PNGs.
    request = seeded(0, 0)
    for name, value in request.inputs.items():
        repeated = np.repeat(tf.make_ndarray(value), 4, axis=0)
        request.inputs[name].CopyFrom(tf.make_tensor_proto(repeated))
    for outputs in (["image"], ["png"]):
        request.output_filter[:] = outputs
        answer = servable.answer([servable.job(request)], most=1)[0]
        assert answer.code.name == "RESOURCE_EXHAUSTED"


def test_answers_that_fit_each_for_itself_are_computed_once(servable, monkeypatch):
    monkeypatch.setattr("mammogan_tf.serving.servable.MESSAGE_LIMIT", 16 * 16 * 4)  # One film.
    passes, call = [], _Signature.call
    monkeypatch.setattr(_Signature, "call", lambda self, *inputs: (passes.append(1), call(self, *inputs))[1])
    two = seeded(3, 0)
    for name, value in two.inputs.items():
        two.inputs[name].CopyFrom(tf.make_tensor_proto(np.repeat(tf.make_ndarray(value), 2, axis=0)))
    jobs = [servable.job(request) for request in (seeded(0, 0), seeded(1, 1), two, seeded(2, 2))]
    *answers, last = servable.answer(jobs)
    assert len(passes) == 1
    assert answers.pop().code.name == "RESOURCE_EXHAUSTED"
    for job, answer in zip([*jobs[:2], jobs[3]], [*answers, last], strict=True):
        np.testing.assert_allclose(image(answer), image(servable.answer([job])[0]), atol=1e-5)


def test_a_request_that_is_given_up_ends_with_the_part_that_runs(servable, monkeypatch):
    request = seeded(3, 0)
    for name, value in request.inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(np.repeat(tf.make_ndarray(value), 3, axis=0)))
    given_up, passes, call = servable.job(request), [], _Signature.call

    def give_up(self, *inputs):
        passes.append(1)
        given_up.abandoned = True
        return call(self, *inputs)

    monkeypatch.setattr(_Signature, "call", give_up)
    (answer,) = servable.answer([given_up], most=1)
    assert answer.code.name == "DEADLINE_EXCEEDED"
    assert len(passes) == 1, "of three"


@pytest.mark.parametrize("count", [0, 4097])
def test_a_request_has_an_example_and_at_most_as_many_as_tensorflow_serving_takes(servable, count):
    request = seeded(0, 0)
    for tensor in request.inputs.values():
        tensor.tensor_shape.dim[0].size = count
    with pytest.raises(StatusError, match=f"expected 1 to 4096 examples in a request, received: {count}") as refused:
        servable.job(request)
    assert refused.value.code.name == "INVALID_ARGUMENT"
