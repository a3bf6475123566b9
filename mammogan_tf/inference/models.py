"""Trained models, from a run directory or from an exported SavedModel, with the same results.

But for films whose values are no whole 255ths: a run rounds them to bytes, as which it was trained, an export does not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mammogan_tf.arrays import require_films, to_numbers
from mammogan_tf.config import CLASSES, LABELS
from mammogan_tf.data.transforms import from_network_range
from mammogan_tf.errors import DataError, ModelError, ServingError
from mammogan_tf.inference.exports import open_export
from mammogan_tf.models.dcgan import seeded_noise
from mammogan_tf.pictures import to_bytes
from mammogan_tf.serving.client import MammoganClient
from mammogan_tf.training.checkpoint import load_network
from mammogan_tf.training.prediction import predict_label_maps, shift_averaged
from mammogan_tf.training.run import Run, is_run

__all__ = ["Generator", "Segmenter", "load_generator", "load_segmenter", "newest_version", "remote_generator"]

BATCH = 32


@dataclass(frozen=True)
class Segmenter:
    """A U-Net for films of side ``size``: float32 [N, S, S] in [0, 1] to label maps uint8 [N, S, S].

    ``view`` is what it was trained on: ``"whole"`` films or windows of them, ``"roi"``. Whole films need their chest wall on the
    left, as its training films had it. Films of another shape, or with values outside [0, 1], raise DataError.
    """

    size: int
    view: str
    name: str
    _predict: Callable[[np.ndarray], np.ndarray]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        _require_shape("films", images, self.size)
        require_films(images, DataError)
        return np.concatenate([self._predict(part) for part in _batches(images)])


@dataclass(frozen=True)
class Generator:
    """A generator of films of side ``size``.

    Seeds int64 [N], label maps uint8 [N, S, S] (values 0-4) and labels [N] (0-2) to float32 [N, S, S] in [0, 1]. But for
    rounding, a film depends on its own seed, label map and label alone. ``masks`` is a file of the label maps it was trained
    on, ``labels`` are those of the films; of others it knows nothing, and it raises DataError, as it does for numbers that
    are not whole. A generator that is served takes seeds only, and any label: its ``z_dim``, the length of the noise
    vector, is None. ``view`` is what it was trained on, None where that is not known; label maps of ``"whole"`` films need their
    chest wall on the left.
    """

    size: int
    name: str
    masks: Path | None
    _from_seeds: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    z_dim: int | None = None
    _from_noise: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None = None
    labels: tuple[str, ...] = LABELS
    view: str | None = None

    def __call__(self, seeds: np.ndarray, label_maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
        seeds = to_numbers("seeds", seeds, np.int64, DataError)
        if seeds.ndim != 1:
            raise DataError(f"seeds: expected [N], received: {list(seeds.shape)}")
        return self._in_batches(self._from_seeds, seeds, label_maps, labels)

    def noise(self, seeds: Sequence[int]) -> np.ndarray:
        """The noise that seeds stand for, float32 [N, Z].

        Raises:
            ModelError: this generator takes seeds only.
        """
        if self.z_dim is None:
            raise self._takes_seeds_only()
        return seeded_noise(tf.constant(seeds, tf.int64), self.z_dim).numpy()

    def from_noise(self, noise: np.ndarray, label_maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The films of noise float32 [N, Z] in place of seeds.

        Raises:
            DataError: noise of another shape, or that is not finite; and as with seeds.
            ModelError: this generator takes seeds only.
        """
        if self._from_noise is None:
            raise self._takes_seeds_only()
        noise = to_numbers("noise", noise, np.float32, DataError)
        if noise.ndim != 2 or noise.shape[1] != self.z_dim:
            raise DataError(f"noise: expected [N, {self.z_dim}], received: {list(noise.shape)}")
        if not np.isfinite(noise).all():
            raise DataError("noise: expected finite numbers, received: some that are not")
        return self._in_batches(self._from_noise, noise, label_maps, labels)

    def _takes_seeds_only(self) -> ModelError:
        return ModelError(f"{self.name}: expected a run or an export on disk, received: one that takes seeds only")

    def require_labels(self, labels: Sequence[int] | np.ndarray) -> None:
        """Raises DataError where a label is none that the generator was trained on."""
        if len(labels):
            _require_range("labels", labels, len(LABELS))
        unknown = [label for number, label in enumerate(LABELS) if label not in self.labels and number in labels]
        if unknown:
            raise DataError(
                f"{self.name}: expected labels that it was trained on, {', '.join(self.labels)}; received: {unknown[0]}; "
                "choose other masks or another label"
            )

    def _in_batches(
        self, predict: Callable, noise: np.ndarray, label_maps: np.ndarray, labels: np.ndarray
    ) -> np.ndarray:
        label_maps = to_numbers("label maps", label_maps, np.int32, DataError)
        labels = to_numbers("labels", labels, np.int32, DataError)
        _require_shape("label maps", label_maps, self.size)
        _require_range("label maps", label_maps, len(CLASSES))
        columns = noise, label_maps, labels
        counts = [len(column) for column in columns]
        if len(set(counts)) > 1:
            names = "seeds or noise", "label maps", "labels"
            received = ", ".join(f"{count} {name}" for count, name in zip(counts, names, strict=True))
            raise DataError(f"{self.name}: expected as many of each, received: {received}")
        if labels.ndim != 1:
            raise DataError(f"labels: expected [N], received: {list(labels.shape)}")
        self.require_labels(labels)
        return np.concatenate([predict(*part) for part in zip(*(_batches(column) for column in columns), strict=True)])


def load_segmenter(path: str | Path, tta: bool = False) -> Segmenter:
    """Loads a U-Net from a ``train-unet`` run or an exported ``unet``.

    Args:
        path: folder of the run or the export.
        tta: test-time averaging, over each film and four copies that are shifted by two pixels; five times the work.

    Raises:
        ModelError: there is no such model, or it is of another kind.
    """
    path = Path(path)
    if is_run(path):
        run, model = _trained_network(path, "train-unet")
        view, size = run.config.data.view, model.input_shape[1]
        return Segmenter(size, view, _short_name(path), lambda x: predict_label_maps(model, to_bytes(x), tta=tta))

    export = open_export(path, "unet", "serving_default", "image")
    call = export.signature("serving_default")
    size = call.structured_input_signature[1]["image"].shape[1]

    def network(films: np.ndarray) -> np.ndarray:
        return call(image=tf.constant(films, tf.float32))["probabilities"].numpy()

    def predict(images: np.ndarray) -> np.ndarray:
        films = images[..., None]
        probabilities = shift_averaged(network, films) if tta else network(films)
        return np.argmax(probabilities, axis=-1).astype(np.uint8)

    return Segmenter(size, export.contract("view"), _short_name(export.path), predict)


def load_generator(path: str | Path) -> Generator:
    """Loads a generator from a ``train-gan`` run or an exported ``generator``.

    Raises:
        ModelError: there is no such model, or it is of another kind.
    """
    path = Path(path)
    if is_run(path):
        run, model = _trained_network(path, "train-gan")
        z_dim, size = model.input["noise"].shape[-1], model.input["mask"].shape[1]

        @tf.function(reduce_retracing=True)
        def predict(noise: tf.Tensor, label_maps: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            mask = tf.one_hot(label_maps, len(CLASSES))
            return model({"noise": noise, "mask": mask, "label": labels}, training=False)

        def from_noise(noise: np.ndarray, label_maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
            images = predict(tf.constant(noise), tf.constant(label_maps), tf.constant(labels))
            return np.clip(from_network_range(images.numpy()[..., 0]), 0, 1)

        def from_seeds(seeds: np.ndarray, label_maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
            return from_noise(seeded_noise(tf.constant(seeds), z_dim).numpy(), label_maps, labels)

        masks, labels, view = run.masks_path, run.trained_labels, run.config.data.view
        return Generator(size, _short_name(path), masks, from_seeds, z_dim, from_noise, labels, view)

    export = open_export(path, "generator", "generate_seeded", "seed")
    seeded, noisy = export.signature("generate_seeded"), export.signature("serving_default")
    size = seeded.structured_input_signature[1]["label_map"].shape[1]
    z_dim = noisy.structured_input_signature[1]["noise"].shape[1]

    def predict_from(signature: Any, first: str) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
        def predict(noise: np.ndarray, label_maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
            inputs = {first: tf.constant(noise), "label_map": tf.constant(label_maps), "label": tf.constant(labels)}
            return signature(**inputs)["image"].numpy()[..., 0]

        return predict

    return Generator(
        size,
        _short_name(export.path),
        export.masks,
        predict_from(seeded, "seed"),
        z_dim,
        predict_from(noisy, "noise"),
        tuple(export.contract("trained_labels")),
        export.contract("view"),
    )


def remote_generator(client: MammoganClient, size: int) -> Generator:
    """The newest ``generator`` of a server, for label maps of side ``size``; it hands no training masks over.

    It stays with that version: where the server takes up a newer one meanwhile, it fails.

    Raises:
        ServingError: the server is not there, or has no generator.
    """
    newest = newest_version(client, "generator")
    return Generator(size, f"generator/{newest}", None, partial(client.generate, version=newest))


def newest_version(client: MammoganClient, model: str) -> int:
    """The newest version of a model that a server answers with now, for who asks many times and wants one alone.

    Raises:
        ServingError: the server is not there, or has no such model.
    """
    versions = [entry["version"] for entry in client.status([model]).get(model, []) if entry["state"] == "AVAILABLE"]
    if not versions:
        raise ServingError(f"{client.address}: expected a served {model}, received: none; export one and serve it")
    return max(versions)


def _trained_network(path: Path, command: str) -> tuple[Run, keras.Model]:
    run = Run.open(path)
    run.require_finished(command)
    return run, load_network(run.model_path)


def _short_name(path: Path) -> str:
    resolved = path.resolve()
    return f"{resolved.parent.name}/{resolved.name}"


def _require_shape(what: str, arrays: np.ndarray, size: int) -> None:
    if arrays.ndim != 3 or arrays.shape[1:] != (size, size) or not len(arrays):
        raise DataError(f"{what}: expected [N, {size}, {size}], received: {list(arrays.shape)}")


def _require_range(what: str, values: Sequence[int] | np.ndarray, count: int) -> None:
    if np.min(values) < 0 or np.max(values) >= count:
        raise DataError(f"{what}: expected values 0-{count - 1}, received: {np.min(values)} to {np.max(values)}")


def _batches(array: np.ndarray) -> list[np.ndarray]:
    return [array[begin : begin + BATCH] for begin in range(0, len(array), BATCH)]
