"""Writes a version ``<to>/<model>/<version>/``: the SavedModel, ``signature.json``, ``MODEL_CARD.md``, ``assets.extra/``."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from mammogan_tf import files
from mammogan_tf.errors import ModelError, first_line
from mammogan_tf.serving.signatures import Signature

__all__ = ["write_version"]

WARM_UP_BATCHES = (1, 8)
"""Batch sizes that a server tries when it loads a version: of the first client, and of a busy one."""


def write_version(
    to: str | os.PathLike[str],
    contract: dict[str, Any],
    signatures: Mapping[str, Signature],
    card: str,
    extra: Mapping[str, Path] | None = None,
) -> Path:
    """Writes a version beside its place and renames it there in one step: a server that polls never sees half of it.

    Args:
        to: the folder of all models.
        contract: what ``signature.json`` says: ``model``, ``size``, ``classes``, ``labels``, ...; the signatures are added.
        signatures: by name.
        card: the model card in Markdown; the table of signatures is added.
        extra: files that travel in ``assets.extra``, by name.

    Returns:
        The version's directory.

    Raises:
        ModelError: it cannot be written, or no version number is left after the largest there.
    """
    name = contract["model"]
    parent = Path(to) / name
    temporary: Path | None = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".export-", dir=parent))
        contract = {**contract, "signatures": _save(temporary, signatures)}
        files.write_json(temporary / "signature.json", contract)
        files.write_text(temporary / "MODEL_CARD.md", card.rstrip() + "\n\n" + _serving_section(contract))
        assets = temporary / "assets.extra"
        assets.mkdir()
        _write_warm_up(assets / "tf_serving_warmup_requests", name, signatures)
        for file_name, source in (extra or {}).items():
            shutil.copyfile(source, assets / file_name)
        temporary.chmod(0o755)
        return _publish(temporary, parent)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ModelError(
            f"{parent}: expected a folder with room for an export, received: {reason}; choose another with --to"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _save(directory: Path, signatures: Mapping[str, Signature]) -> dict[str, Any]:
    """Writes the SavedModel; returns names, dtypes and shapes of every signature's inputs and outputs."""
    archive = keras.export.ExportArchive()  # It finds the weights in the signatures; track() would store them twice.
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


def _write_warm_up(path: Path, model: str, signatures: Mapping[str, Signature]) -> None:
    """Requests for every signature, in the format that TensorFlow Serving replays when it loads a version."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, (_, inputs) in signatures.items():
            for batch in WARM_UP_BATCHES:
                request = predict_pb2.PredictRequest()
                request.model_spec.name = model
                request.model_spec.signature_name = signature
                for spec in inputs:
                    request.inputs[spec.name].CopyFrom(_blank(spec, batch))
                log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
                writer.write(log.SerializeToString())


def _blank(spec: tf.TensorSpec, batch: int) -> Any:
    """Zeros of a batch as one value with a shape, or as black films of one pixel."""
    shape = [batch, *spec.shape[1:]]
    if spec.dtype == tf.string:
        return tf.make_tensor_proto([tf.io.encode_png([[[tf.constant(0, tf.uint8)]]]).numpy()] * batch)
    return tf.make_tensor_proto(0, spec.dtype, shape)


def _serving_section(contract: Mapping[str, Any]) -> str:
    lines = ["## Serving", "", "| signature | inputs | outputs |", "| --- | --- | --- |"]
    for name, signature in contract["signatures"].items():
        lines.append(f"| `{name}` | {_cell(signature['inputs'])} | {_cell(signature['outputs'])} |")
    lines += ["", "B is free. Films are in [0, 1]."]
    lines.append(f"Label map: {_numbered(contract['classes'])}. Label: {_numbered(contract['labels'])}.")
    return "\n".join(lines) + "\n"


def _cell(tensors: Mapping[str, Any]) -> str:
    def shape(spec: Mapping[str, Any]) -> str:
        return ", ".join("B" if side is None else str(side) for side in spec["shape"])

    return ", ".join(f"`{name}` {spec['dtype']} [{shape(spec)}]" for name, spec in tensors.items())


def _numbered(names: Sequence[str]) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(names))


def _publish(temporary: Path, parent: Path) -> Path:
    """Renames the finished version to the next free number; an export that runs beside this one gets another."""
    number = max(files.numbered_folders(parent), default=0)
    while True:
        number += 1
        if number > files.MAX_VERSION:
            raise ModelError(
                f"{parent}: expected versions below {files.MAX_VERSION}, received: that one; give it a smaller number"
            )
        version = parent / str(number)
        try:
            return temporary.rename(version)
        except OSError:
            if not version.exists():
                raise
