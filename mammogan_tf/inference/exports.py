"""Exported models on disk, as :mod:`mammogan_tf.serving.saved_model` writes them: the signatures, and what stands beside them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from mammogan_tf.errors import ModelError, first_line
from mammogan_tf.files import numbered_folders, plain_path, read_json

__all__ = ["Export", "open_export"]


@dataclass(frozen=True)
class Export:
    """A version of an exported model: its folder, and the SavedModel in it, loaded."""

    path: Path
    loaded: Any

    def signature(self, name: str) -> Any:
        """A signature, to be called with tensors by name; None where there is none of the name."""
        call = self.loaded.signatures.get(name)
        if call is not None:
            call.keep_alive = self.loaded  # Or its variables would go with the model.
        return call

    def contract(self, name: str) -> Any:
        """What ``signature.json`` says under a name.

        Raises:
            ModelError: it says nothing, or cannot be read.
        """
        try:
            return read_json(self.path / "signature.json")[name]
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"{self.path}: expected signature.json with {name}, received: {error}; export it again"
            ) from error

    @property
    def masks(self) -> Path:
        """The masks that a generator was trained on; not every export has them."""
        return self.path / "assets.extra" / "masks.npz"


def open_export(path: Path, kind: str, signature: str, argument: str) -> Export:
    """An exported model, the newest version where ``path`` holds several.

    It is of the right ``kind`` if its ``signature`` takes the ``argument``.

    Raises:
        ModelError: there is no such model, or it is of another kind.
    """
    versions = numbered_folders(path) if path.is_dir() else {}
    version = versions[max(versions)] if versions else path
    if not (version / "saved_model.pb").exists():
        raise ModelError(f"{path}: expected a run directory or an exported {kind}, received: neither")
    try:
        with plain_path(version) as plain:
            export = Export(version, tf.saved_model.load(str(plain)))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise ModelError(
            f"{version}: expected a whole SavedModel, received: {first_line(error)}; export it again"
        ) from error
    call = export.signature(signature)
    if call is None or argument not in call.structured_input_signature[1]:
        offered = ", ".join(export.loaded.signatures) or "no signatures"
        raise ModelError(f"{version}: expected an exported {kind}, received: another model, with {offered}")
    return export
