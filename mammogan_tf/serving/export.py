"""Exports trained networks as SavedModels that TensorFlow Serving, and plain ``tf.saved_model.load``, run as they are.

An export is the directory ``<to>/<model>/<version>/``: the SavedModel with named and typed signatures,
``signature.json`` (the contract, for programs), ``MODEL_CARD.md`` (for people) and ``assets.extra/`` with the warm-up
requests and, for a generator, the masks to generate from.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import keras

from mammogan_tf.config import CLASSES, LABELS
from mammogan_tf.errors import ModelError
from mammogan_tf.serving.saved_model import write_version
from mammogan_tf.serving.signatures import generator_signatures, synthesize_signatures, unet_signatures
from mammogan_tf.training.checkpoint import compute_in_float32, load_network
from mammogan_tf.training.run import Run

__all__ = ["export_generator", "export_runs", "export_synthesize", "export_unet"]

INTENDED_USE = "For research and teaching; never for diagnosis."
UNET_NOTE = "An `image` needs the chest wall on the left, as it has learned; a `png` may have it on either side."
GENERATOR_NOTE = "It has learned from label maps with the chest wall on the left."
SYNTHESIZE_CARD = f"""# Synthesize: a film in, a synthetic film of the same anatomy out

The U-Net outlines the anatomy of the film; the generator draws a film of that anatomy from the seed, with the chest wall
where the film has it. Lesions that the U-Net finds do not count: the synthetic film is normal, or benign with the
lesion that was asked for. {INTENDED_USE}"""

NUMBERING = {"classes": CLASSES, "labels": LABELS}


def export_runs(run_paths: Sequence[str | os.PathLike[str]], to: str | os.PathLike[str] = "saved_models") -> list[Path]:
    """Exports runs, each as the next version of its model; a U-Net and a generator of whole films make ``synthesize`` too.

    A generator that was not trained on benign and normal films makes none: ``synthesize`` asks for these.

    Args:
        run_paths: finished runs of ``train-unet`` and ``train-gan``.
        to: the folder of all models.

    Returns:
        The versions' directories, that of ``synthesize`` last.

    Raises:
        ModelError: a run is missing, unfinished or named twice, the pair does not fit together (then nothing is written), or
            an export cannot be written.
    """
    runs = [Run.open(Path(path)) for path in run_paths]
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise ModelError(f"expected each run once, received: {', '.join(map(str, run_paths))}; leave one out")
    networks = [_load(run) for run in runs]
    pair = {run.command: (run, network) for run, network in zip(runs, networks, strict=True)}
    makes_synthesize = (
        len(runs) == len(pair) == 2
        and all(run.config.data.view == "whole" for run in runs)
        and {"benign", "normal"} <= {*pair["train-gan"][0].trained_labels}
    )
    if makes_synthesize:
        _require_alike(*runs)
    versions = [_export(run, network, to) for run, network in zip(runs, networks, strict=True)]
    if makes_synthesize:
        (unet_run, unet), (gan_run, generator) = pair["train-unet"], pair["train-gan"]
        versions.append(export_synthesize(unet, generator, to, cards=[_card(unet_run), _card(gan_run)]))
    return versions


def export_unet(model: keras.Model, to: str | os.PathLike[str], *, view: str = "whole", card: str = "") -> Path:
    """Exports a U-Net ``image`` [B, S, S, 1] to probabilities [B, S, S, 5] as ``<to>/unet/<next version>``.

    It computes in float32 whatever precision it was trained with. ``view`` is what it was trained on, one of
    ``config.VIEWS``; ``card`` is the model card in Markdown.

    Raises:
        ModelError: the export cannot be written.
    """
    size = model.input_shape[1]
    network = _in_float32(model)
    contract = {"model": "unet", "size": size, "view": view, **NUMBERING}
    card = _with_note(card or _blank_card("unet"), UNET_NOTE, view)
    return write_version(to, contract, unet_signatures(network, size, view), card)


def export_generator(
    model: keras.Model,
    to: str | os.PathLike[str],
    *,
    view: str = "whole",
    labels: Sequence[str] = LABELS,
    card: str = "",
    masks: Path | None = None,
) -> Path:
    """Exports a generator as ``<to>/generator/<next version>``.

    ``model`` takes a dict of ``noise`` [B, Z], one-hot ``mask`` [B, S, S, 5] and ``label`` [B], and gives [B, S, S, 1]
    in [-1, 1]; the export computes in float32 whatever precision it was trained with. ``view`` is what it was trained on,
    one of ``config.VIEWS``, ``labels`` are those that it was trained on; ``card`` is the model card, ``masks`` is an ``.npz``
    file with ``label_maps`` uint8 [N, S, S], ``labels`` int32 [N] and ``ids``, N names, that travels with the export, so that
    it can generate on its own.

    Raises:
        ModelError: the export cannot be written.
    """
    size, z_dim = model.input["mask"].shape[1], model.input["noise"].shape[1]
    network = _in_float32(model)
    contract = {
        "model": "generator",
        "size": size,
        "view": view,
        "z_dim": z_dim,
        **NUMBERING,
        "trained_labels": [*labels],
    }
    signatures = generator_signatures(network, size, z_dim)
    card = _with_note(card or _blank_card("generator"), GENERATOR_NOTE, view)
    return write_version(to, contract, signatures, card, {"masks.npz": masks} if masks else {})


def export_synthesize(
    unet: keras.Model, generator: keras.Model, to: str | os.PathLike[str], *, cards: Sequence[str] = ()
) -> Path:
    """Exports both networks in a row as ``<to>/synthesize/<next version>``: a film to a new film of the same anatomy.

    The networks are those of :func:`export_unet` and :func:`export_generator`, of one size S; ``cards`` are their cards.

    Raises:
        ModelError: the networks differ in size, or the export cannot be written.
    """
    size, z_dim = generator.input["mask"].shape[1], generator.input["noise"].shape[1]
    if unet.input_shape[1] != size:
        received = f"{unet.input_shape[1]} and {size} px"
        raise ModelError(f"synthesize: expected networks of one size, received: {received}; train them alike")
    contract = {"model": "synthesize", "size": size, "view": "whole", "z_dim": z_dim, **NUMBERING}
    signatures = synthesize_signatures(_in_float32(unet), _in_float32(generator), size, z_dim)
    parts = [re.sub(r"^#", "##", card, flags=re.MULTILINE).rstrip() for card in cards]
    return write_version(to, contract, signatures, "\n\n".join([SYNTHESIZE_CARD, *parts]))


def _export(run: Run, network: keras.Model, to: str | os.PathLike[str]) -> Path:
    if run.command == "train-unet":
        return export_unet(network, to, view=run.config.data.view, card=_card(run))
    masks = run.masks_path
    return export_generator(
        network,
        to,
        view=run.config.data.view,
        labels=run.trained_labels,
        card=_card(run),
        masks=masks if masks.is_file() else None,
    )


def _load(run: Run) -> keras.Model:
    if run.command == "cross-validate":
        raise ModelError(
            f"{run.path}: expected a train-unet or train-gan run, received: a cross-validate run; "
            "export one of the runs in its train-unet/"
        )
    run.require_finished("train-unet", "train-gan")
    return load_network(run.model_path)


def _card(run: Run) -> str:
    card = run.card_path
    return card.read_text() if card.is_file() else ""


def _with_note(card: str, note: str, view: str) -> str:
    """The card with what one has to know of whole films; windows lie as they will."""
    return f"{card.rstrip()}\n\n{note}" if view == "whole" else card


def _blank_card(model: str) -> str:
    return f"# {model}\n\n{INTENDED_USE}"


def _require_alike(one: Run, other: Run) -> None:
    """A generator knows the label maps of films prepared in one way, and its U-Net has to find such."""
    for name in ("size", "keep_background"):
        values = [getattr(run.config.data, name) for run in (one, other)]
        if values[0] != values[1]:
            raise ModelError(
                f"{one.path} and {other.path}: expected runs alike in {name}, received: {values[0]} and {values[1]}; "
                "export them one by one"
            )


def _in_float32(model: keras.Model) -> keras.Model:
    """A copy that computes in float32 whatever precision the model was trained with."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return compute_in_float32(copy)
