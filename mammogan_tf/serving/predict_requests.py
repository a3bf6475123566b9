"""What clients ask the served models: NumPy to Predict requests and back, in chunks below the message limit."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from mammogan_tf.arrays import require_films, to_numbers
from mammogan_tf.errors import ServingError
from mammogan_tf.serving.channel import is_too_large

__all__ = [
    "MODELS",
    "PredictCall",
    "Segmentation",
    "Synthesis",
    "chunks",
    "generate",
    "read_status",
    "segment",
    "smaller",
    "status_request",
    "synthesize",
]

MODELS = ("unet", "generator", "synthesize")

CHUNK_BYTES = 16 * 2**20
CHUNK_EXAMPLES = 64
ANSWER_SIZE = 6
"""A U-Net's answer is this many times its request: five probabilities and a class to a pixel."""
PNG_BYTES = 2**20
"""A PNG counts for this much at least: the answer takes more than a small file, at 256 x 256 pixels half as much again.
What a larger model answers is known once it has been too large."""

Answer = TypeVar("Answer")


class Segmentation(NamedTuple):
    """``label_map`` uint8 [N, S, S] with values 0-4 and ``probabilities`` float32 [N, S, S, 5]."""

    label_map: np.ndarray
    probabilities: np.ndarray


class Synthesis(NamedTuple):
    """``label_map`` uint8 [N, S, S] with values 0-4, ``image`` float32 [N, S, S] in [0, 1], and the images as PNG files."""

    label_map: np.ndarray
    image: np.ndarray
    png: list[bytes]


@dataclass(frozen=True)
class PredictCall(Generic[Answer]):
    """Inputs for one signature, of any number of films, and what the outputs make.

    ``costs`` are the bytes that each film takes in a message, of the request or the answer; ``read`` makes the answer of
    the outputs of all films. ``version`` is that of the model, None the newest; what cannot be one raises ServingError.
    """

    model: str
    signature: str
    inputs: Mapping[str, np.ndarray]
    outputs: tuple[str, ...]
    costs: Sequence[int]
    read: Callable[[dict[str, np.ndarray]], Answer]
    version: int | None = None

    def __post_init__(self) -> None:
        number = isinstance(self.version, Integral) and not isinstance(self.version, bool)
        if self.version is not None and not (number and 0 <= self.version < 2**63):
            raise ServingError(f"version: expected a whole number from 0 to 2^63 - 1, received: {self.version!r}")

    @property
    def asked(self) -> str:
        """Model and version, where it insists on one."""
        return "" if self.version is None else f"{self.model}/{self.version}"

    def request(self, chunk: slice) -> Any:
        """The ``PredictRequest`` that asks it of these films."""
        from tensorflow_serving.apis.predict_pb2 import PredictRequest

        request = PredictRequest(output_filter=self.outputs)
        request.model_spec.name = self.model
        request.model_spec.signature_name = self.signature
        if self.version is not None:
            request.model_spec.version.value = self.version
        for name, value in self.inputs.items():
            _write(value[chunk], request.inputs[name])
        return request

    def answer(self, responses: Sequence[Any]) -> Answer:
        """What the ``PredictResponse`` messages to all of its :meth:`request` messages say, in their order.

        Raises:
            ServingError: the server took up another version between them.
        """
        versions = sorted({response.model_spec.version.value for response in responses})
        if len(versions) > 1:
            received = " and ".join(map(str, versions))
            raise ServingError(f"{self.model}: expected answers of one version, received: {received}; ask again")
        parts = {name: [_to_array(response.outputs[name]) for response in responses] for name in self.outputs}
        return self.read({name: np.concatenate(arrays) for name, arrays in parts.items()})


def segment(images: np.ndarray | Sequence[bytes], version: int | None = None) -> PredictCall[Segmentation]:
    """Films float32 [N, S, S] in [0, 1], or PNGs of any size, to their label maps.

    Raises:
        ServingError: there is none, they are neither, or films are outside [0, 1].
    """

    def read(outputs: dict[str, np.ndarray]) -> Segmentation:
        return Segmentation(outputs["label_map"].astype(np.uint8), outputs["probabilities"])

    wanted = ("label_map", "probabilities")
    if isinstance(images, np.ndarray) and images.dtype.kind not in "OSU":
        batch = _numbers("films", images, np.float32)[..., None]
        _require_some("segment", batch)
        require_films(batch, ServingError)
        costs = [ANSWER_SIZE * batch[0].nbytes] * len(batch)
        return PredictCall("unet", "serving_default", {"image": batch}, wanted, costs, read, version)
    pngs = _pngs("segment", images, "an array [N, S, S] or PNG files as bytes in a list")
    return PredictCall("unet", "segment_png", {"png": pngs}, wanted, _png_costs(pngs), read, version)


def generate(
    seeds: Sequence[int] | np.ndarray,
    label_maps: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    version: int | None = None,
) -> PredictCall[np.ndarray]:
    """Seeds [N], label maps [N, S, S] (0-4) and labels [N] (0-2) to films float32 [N, S, S] in [0, 1].

    Raises:
        ServingError: there is none, they are not as many, or no such numbers.
    """
    inputs: dict[str, np.ndarray] = {
        "seed": _numbers("seeds", seeds, np.int64),
        "label_map": _numbers("label maps", label_maps, np.int32),
        "label": _numbers("labels", labels, np.int32),
    }
    counted = {"seeds": inputs["seed"], "label maps": inputs["label_map"], "labels": inputs["label"]}
    _require_as_many("generate", counted)
    costs = [inputs["label_map"][0].nbytes] * len(inputs["seed"])

    def read(outputs: dict[str, np.ndarray]) -> np.ndarray:
        return outputs["image"][..., 0]

    return PredictCall("generator", "generate_seeded", inputs, ("image",), costs, read, version)


def synthesize(
    films: Sequence[bytes],
    seeds: Sequence[int] | np.ndarray,
    lesions: Sequence[Sequence[float]] | np.ndarray | None = None,
    version: int | None = None,
) -> PredictCall[Synthesis]:
    """PNGs of films, seeds [N] and, where wanted, lesions [N, 3] (x, y, radius in [0, 1]) to films of the same anatomy.

    Raises:
        ServingError: there is none, they are no PNGs, not as many, or no such numbers.
    """
    pngs = _pngs("synthesize", films, "PNG files as bytes in a list")
    inputs: dict[str, np.ndarray] = {"png": pngs, "seed": _numbers("seeds", seeds, np.int64)}
    signature = "serving_default"
    counted = {"films": pngs, "seeds": inputs["seed"]}
    if lesions is not None:
        inputs["lesion"] = counted["lesions"] = _numbers("lesions", lesions, np.float32)
        signature = "with_lesion"
    _require_as_many("synthesize", counted)

    def read(outputs: dict[str, np.ndarray]) -> Synthesis:
        label_maps, images = outputs["label_map"].astype(np.uint8), outputs["image"][..., 0]
        return Synthesis(label_maps, images, list(outputs["png"]))

    return PredictCall("synthesize", signature, inputs, Synthesis._fields, _png_costs(pngs), read, version)


def status_request(model: str) -> Any:
    """The ``GetModelStatusRequest`` about all versions of a model."""
    from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest

    request = GetModelStatusRequest()
    request.model_spec.name = model
    return request


def read_status(response: Any) -> list[dict[str, Any]]:
    """``version``, ``state`` (``AVAILABLE``, ...) and ``error`` of each version in a ``GetModelStatusResponse``."""
    from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

    return [
        {
            "version": status.version,
            "state": ModelVersionStatus.State.Name(status.state),
            "error": status.status.error_message,
        }
        for status in response.model_version_status
    ]


def chunks(costs: Sequence[int]) -> Iterator[slice]:
    """Slices of a batch whose costs in bytes together stay below the limit; a single film may pass it."""
    start = total = 0
    for index, cost in enumerate(costs):
        if index > start and (total + cost > CHUNK_BYTES or index - start == CHUNK_EXAMPLES):
            yield slice(start, index)
            start, total = index, 0
        total += cost
    yield slice(start, len(costs))


def smaller(chunks: Sequence[slice], error: Any) -> list[slice]:
    """The same films in slices of at most half the first one's length, if the answer to that one was too large for a message.

    Raises:
        grpc.RpcError: ``error`` is another one, or the first slice has a single film.
    """
    films = chunks[0].stop - chunks[0].start
    if films == 1 or not is_too_large(error):
        raise error
    most = math.ceil(films / 2)
    return [
        slice(start, min(start + most, chunk.stop))
        for chunk in chunks
        for start in range(chunk.start, chunk.stop, most)
    ]


def _png_costs(pngs: np.ndarray) -> list[int]:
    return [max(len(png), PNG_BYTES) for png in pngs]


def _pngs(what: str, films: Any, expected: str) -> np.ndarray:
    films = films.tolist() if isinstance(films, np.ndarray) else films
    several = isinstance(films, Sequence) and not isinstance(films, bytes | str)
    others = [film for film in films if not isinstance(film, bytes)] if several else [films]
    if others:
        raise ServingError(f"{what}: expected {expected}, received: {type(others[0]).__name__}")
    _require_some(what, films)
    return np.array(films, object)


def _numbers(what: str, values: Any, kind: type[np.number]) -> np.ndarray:
    return to_numbers(what, values, kind, ServingError)


def _require_some(what: str, films: Sequence[Any] | np.ndarray) -> None:
    if (films.size if isinstance(films, np.ndarray) else len(films)) == 0:
        raise ServingError(f"{what}: expected one film or more, received: none")


def _require_as_many(what: str, columns: Mapping[str, np.ndarray]) -> None:
    counts = {name: len(column) for name, column in columns.items()}
    if min(counts.values()) == 0 or len(set(counts.values())) > 1:
        received = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise ServingError(f"{what}: expected as many of each, and one or more, received: {received}")


def _write(array: np.ndarray, proto: Any) -> None:
    """Puts an array into an empty ``TensorProto``, numbers as ``tensor_content``: several times faster than TensorFlow's way."""
    import tensorflow as tf

    proto.dtype = tf.as_dtype(array.dtype).as_datatype_enum
    for side in array.shape:
        proto.tensor_shape.dim.add(size=side)
    if array.dtype.hasobject:
        proto.string_val.extend(array.ravel())
    else:
        proto.tensor_content = array.tobytes()


def _to_array(proto: Any) -> np.ndarray:
    """The values of a tensor; numbers without a loop over them."""
    import tensorflow as tf

    values, sides = proto.float_val or proto.int_val, [dim.size for dim in proto.tensor_shape.dim]
    if values and len(values) == math.prod(sides):
        return np.asarray(values, tf.as_dtype(proto.dtype).as_numpy_dtype).reshape(sides)
    return tf.make_ndarray(proto)
