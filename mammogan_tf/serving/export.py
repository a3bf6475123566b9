"""Exports trained networks as SavedModels that TensorFlow Serving, and plain ``tf.saved_model.load``, run as they are.

An export is the directory ``<to>/<model>/<version>/``: the SavedModel with named and typed signatures,
``signature.json`` (the contract, for programs), ``MODEL_CARD.md`` (for people) and ``assets.extra/`` with the warm-up
requests and, for a generator, the masks to generate from.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from mammogan_tf import files
from mammogan_tf.config import CLASSES, LABELS
from mammogan_tf.errors import ModelError
from mammogan_tf.serving.signatures import generator_signatures, unet_signatures
from mammogan_tf.training.checkpoint import compute_in_float32, load_network
from mammogan_tf.training.run import Run

__all__ = ["export_generator", "export_run", "export_unet"]

INTENDED_USE = "For research and teaching; never for diagnosis."


def export_run(run_path: str | os.PathLike[str], to: str | os.PathLike[str] = "saved_models") -> Path:
    """Exports the network of a training run; returns the version's directory ``<to>/unet|generator/<version>``.

    Raises:
        ModelError: the run is missing or unfinished, or the export cannot be written.
    """
    run = Run.open(Path(run_path))
    try:
        model = load_network(run.model_path)
    except ModelError as error:
        problem = "a broken model.keras" if run.finished else "one without model.keras"
        raise ModelError(
            f"{run.path}: expected a finished run, received: {problem}; resume or repeat the training"
        ) from error
    card = run.path / "MODEL_CARD.md"
    text = card.read_text() if card.is_file() else ""
    if run.command == "train-unet":
        return export_unet(model, to, card=text)
    masks = run.path / "masks.npz"
    return export_generator(model, to, card=text, masks=masks if masks.is_file() else None)


def export_unet(model: keras.Model, to: str | os.PathLike[str], *, card: str = "") -> Path:
    """Exports a U-Net ``image`` [B, S, S, 1] to probabilities [B, S, S, 5] as ``<to>/unet/<next version>``.

    It computes in float32 whatever precision it was trained with. ``card`` is the model card in Markdown.

    Raises:
        ModelError: the export cannot be written.
    """
    size = model.input_shape[1]
    network = _in_float32(model)
    film = np.zeros([1, size, size, 1], np.float32)
    blank = tf.io.encode_png(tf.zeros([size, size, 1], tf.uint8)).numpy()
    warm_up: dict[str, dict[str, np.ndarray]] = {
        "serving_default": {"image": film},
        "segment_png": {"png": np.array([blank], object)},
    }
    contract = {"model": "unet", "size": size, "classes": CLASSES, "labels": LABELS}
    return _write(to, contract, network, unet_signatures(network, size), warm_up, card)


def export_generator(
    model: keras.Model, to: str | os.PathLike[str], *, card: str = "", masks: Path | None = None
) -> Path:
    """Exports a generator as ``<to>/generator/<next version>``.

    ``model`` takes a dict of ``noise`` [B, Z], one-hot ``mask`` [B, S, S, 5] and ``label`` [B], and gives [B, S, S, 1]
    in [-1, 1]; the export computes in float32 whatever precision it was trained with. ``card`` is the model card,
    ``masks`` is an ``.npz`` file with ``label_maps`` uint8 [N, S, S] and ``labels`` int32 [N] that travels with the
    export, so that it can generate on its own.

    Raises:
        ModelError: the export cannot be written.
    """
    size, z_dim = model.input["mask"].shape[1], model.input["noise"].shape[1]
    network = _in_float32(model)
    condition = {"label_map": np.zeros([1, size, size], np.int32), "label": np.zeros([1], np.int32)}
    warm_up: dict[str, dict[str, np.ndarray]] = {
        "serving_default": {"noise": np.zeros([1, z_dim], np.float32), **condition},
        "generate_seeded": {"seed": np.zeros([1], np.int64), **condition},
    }
    contract = {"model": "generator", "size": size, "z_dim": z_dim, "classes": CLASSES, "labels": LABELS}
    signatures = generator_signatures(network, size, z_dim)
    return _write(to, contract, network, signatures, warm_up, card, {"masks.npz": masks} if masks else {})


def _in_float32(model: keras.Model) -> keras.Model:
    """A copy that computes in float32 whatever precision the model was trained with."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return compute_in_float32(copy)


def _write(
    to: str | os.PathLike[str],
    contract: dict[str, Any],
    network: keras.Model,
    signatures: Mapping[str, tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]],
    warm_up: Mapping[str, Mapping[str, np.ndarray]],
    card: str,
    extra: Mapping[str, Path] | None = None,
) -> Path:
    """Writes a version beside its place and renames it there in one step: a server that polls never sees half of it."""
    name = contract["model"]
    parent = Path(to) / name
    temporary: Path | None = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".export-", dir=parent))
        contract["signatures"] = _save(temporary, network, signatures)
        files.write_json(temporary / "signature.json", contract)
        files.write_text(temporary / "MODEL_CARD.md", _card(card, contract))
        assets = temporary / "assets.extra"
        assets.mkdir()
        _write_warm_up(assets / "tf_serving_warmup_requests", name, warm_up)
        for file_name, source in (extra or {}).items():
            shutil.copyfile(source, assets / file_name)
        temporary.chmod(0o755)
        return _publish(temporary, parent)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise ModelError(
            f"{parent}: expected a folder with room for an export, received: {reason}; choose another with --to"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _save(directory: Path, network: keras.Model, signatures: Mapping[str, tuple]) -> dict[str, Any]:
    """Writes the SavedModel; returns names, dtypes and shapes of every signature's inputs and outputs."""
    archive = keras.export.ExportArchive()
    archive.track(network)
    described = {}
    for name, (function, inputs) in signatures.items():
        outputs = archive.add_endpoint(name, function, inputs).get_concrete_function().structured_outputs
        described[name] = {
            "inputs": {spec.name: _describe(spec) for spec in inputs},
            "outputs": {key: _describe(spec) for key, spec in outputs.items()},
        }
    archive.write_out(directory, verbose=False)
    return described


def _describe(spec: tf.TensorSpec) -> dict[str, Any]:
    return {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}


def _write_warm_up(path: Path, model: str, requests: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """One request for every signature, in the format that TensorFlow Serving replays when it loads a version."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model
            request.model_spec.signature_name = signature
            for key, value in inputs.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def _card(card: str, contract: Mapping[str, Any]) -> str:
    lines = [card.rstrip() or f"# {contract['model']}\n\n{INTENDED_USE}", "", "## Serving", ""]
    lines += ["| signature | inputs | outputs |", "| --- | --- | --- |"]
    for name, signature in contract["signatures"].items():
        lines.append(f"| `{name}` | {_cell(signature['inputs'])} | {_cell(signature['outputs'])} |")
    lines += [
        "",
        "B is free. Films are in [0, 1]. The generator has learned from maps with the chest wall on the left.",
        "",
    ]
    lines.append(f"Label map: {_numbered(contract['classes'])}. Label: {_numbered(contract['labels'])}.")
    return "\n".join(lines) + "\n"


def _cell(tensors: Mapping[str, Any]) -> str:
    def shape(spec: Mapping[str, Any]) -> str:
        return ", ".join("B" if side is None else str(side) for side in spec["shape"])

    return ", ".join(f"`{name}` {spec['dtype']} [{shape(spec)}]" for name, spec in tensors.items())


def _numbered(names: tuple[str, ...]) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(names))


def _publish(temporary: Path, parent: Path) -> Path:
    """Renames the finished version to the next free number; an export that runs beside this one gets another."""
    while True:
        taken = [int(child.name) for child in parent.iterdir() if re.fullmatch(r"[0-9]{1,18}", child.name)]
        version = parent / str(max(taken, default=0) + 1)
        try:
            return temporary.rename(version)
        except OSError:
            if not version.exists():
                raise
