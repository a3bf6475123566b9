"""The run of a GAN, and the masks that it is conditioned on."""

import dataclasses
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from mammogan_tf.config import LABELS, LESION, GANConfig
from mammogan_tf.console import Progress
from mammogan_tf.data.film import Film
from mammogan_tf.data.film_set import FilmSet, load_films
from mammogan_tf.data.label_maps import read_masks
from mammogan_tf.data.splits import Split, require_disjoint_patients, split_patients
from mammogan_tf.errors import DataError, ModelError
from mammogan_tf.models.blocks import FusedNormalization
from mammogan_tf.training.checkpoint import load_network
from mammogan_tf.training.prediction import predict_label_maps
from mammogan_tf.training.run import UNET, Run, patient_digits
from mammogan_tf.training.split_films import fingerprints

__all__ = [
    "create_gan_run",
    "load_anatomy_unet",
    "mask_source",
    "supports_variants",
    "with_condition_masks",
    "with_variants",
]

MASK_FILES = {"train-unet": UNET, "cross-validate": "unet_masks.npz"}
"""What a GAN's run keeps of the run that its masks come from: the network, or the masks themselves."""


def create_gan_run(
    workdir: str | Path,
    config: GANConfig,
    films: Sequence[Film],
    data: Sequence[str | Path],
    unet: Run | None = None,
) -> Run:
    """Makes a run directory for a GAN.

    With ``config.masks == "unet"`` it copies the network of the U-Net run into it. A U-Net of the same films, or of more,
    hands its split on too, so that the patients kept apart are the same for both. From a cross-validation it copies the masks
    instead, which no network has memorised. Films of other labels than ``config.labels`` are left out of the split. Where films
    cannot be moved (:func:`supports_variants`), the run has no variants.

    Args:
        workdir: where run directories are made.
        config: the hyper-parameters.
        films: the films.
        data: where they come from.
        unet: a finished ``train-unet`` or ``cross-validate`` run.

    Raises:
        ModelError: masks are to come from a U-Net, and none is given, or it was trained on films prepared or split
            otherwise, or has seen test patients, or films are without a mask.
        DataError: too few patients, or too few with these labels, or a patient has come to be in two parts of the split.
    """
    if not supports_variants(config, unet):
        config = dataclasses.replace(config, variants=0)
    split = split_patients(films, config.data.validation, config.data.test, config.data.split_seed)
    left_out = [film.id for film in films if not _labels_shown(film, config.data.view) & {*config.labels}]
    if config.masks == "annotation":
        return Run.create(workdir, config, split.without(left_out), data)

    unet = _require_mask_run(unet)
    names = {film.id for film in films}
    if unet.command == "cross-validate":
        _require_masks_of(names, unet)
        _require_prepared_alike(config, unet, split_too=False)
        chosen, masks = split.without(left_out), unet.masks_path
    else:
        its_films = {*unet.split.train, *unet.split.validation, *unet.split.test}
        same_split = names <= its_films
        _require_prepared_alike(config, unet, split_too=same_split)
        chosen, masks = (
            (unet.split if same_split else split).without([*left_out, *(its_films - names)]),
            unet.model_path,
        )
        if not same_split:
            _require_unseen(chosen, unet, films)
    require_disjoint_patients(chosen, films)
    return Run.create(workdir, config, chosen, data, {MASK_FILES[unet.command]: masks})


def _require_mask_run(unet: Run | None) -> Run:
    """Refuses what is no finished run that masks can come from."""
    if unet and unet.command in MASK_FILES and unet.finished:
        return unet
    received = "none" if unet is None else str(unet.path)
    advice = "run train-unet first"
    if unet and unet.command in MASK_FILES:
        advice = f"go on with: mammogan-tf {unet.command} --resume {shlex.quote(str(unet.path))}"
    raise ModelError(
        f"masks from a U-Net: expected a finished train-unet or cross-validate run, received: {received}; {advice}"
    )


def _require_masks_of(names: set[str], folds: Run) -> None:
    """Refuses a cross-validation that did not have all of these films."""
    missing = sorted(names - {*folds.split.test})
    if missing:
        raise ModelError(
            f"{folds.path}: expected masks of all films, received: none of {', '.join(missing[:5])}; "
            "cross-validate on the same data"
        )


def _require_prepared_alike(config: GANConfig, unet: Run, *, split_too: bool) -> None:
    """Refuses a U-Net that saw other pictures of the films than the GAN will; with its split, all options have to be the same."""
    for name, wanted in vars(config.data).items():
        trained = getattr(unet.config.data, name)
        if trained != wanted and (split_too or name in ("size", "view", "keep_background")):
            raise ModelError(f"{unet.path}: expected a U-Net trained with {name} {wanted}, received: {name} {trained}")


def _labels_shown(film: Film, view: str) -> set[str]:
    """Labels of a film's pictures: a window has that of its own lesion, which may be better than the film's worst."""
    of_lesions = {LABELS[lesion.label] for lesion in film.lesions} if view == "roi" else set()
    return of_lesions or {LABELS[film.label]}


def _require_unseen(split: Split, unet: Run, films: Sequence[Film]) -> None:
    """Refuses a U-Net that was trained or chosen by films of test patients.

    The run and the data set may name different patients for a film by now: either is enough to refuse it.
    """
    patients = {film.id: film.patient for film in films}
    now = {name: patient_digits(patient) for name, patient in patients.items()}
    used = (*unet.split.train, *unet.split.validation)
    seen = {digits[name] for digits in (unet.patients, now) for name in used if name in digits}
    leaked = sorted({patients[name] for name in split.test if now[name] in seen})
    if leaked:
        raise ModelError(
            f"{unet.path}: expected a U-Net that has seen no test patient, received: one that has seen {len(leaked)}, "
            f"{', '.join(leaked[:5])}; train one, or cross-validate, on the same data"
        )


def with_condition_masks(run: Run, films: FilmSet) -> FilmSet:
    """The films with the masks that this run's generator is conditioned on.

    From a U-Net, the anatomy is what the network finds, or found in cross-validation, and the lesions are the annotated
    ones; from annotations, the masks stay as they are. The mask of a window is found with a margin of film around it, which
    helps the U-Net to tell what the window shows: crop it afterwards. The background is black where the mask says background,
    unless the run keeps it.

    Raises:
        DataError: a film is not one of those that were cross-validated.
        ModelError: the run's U-Net is missing or broken.
    """
    config = run.config_of(GANConfig)
    find = _mask_predictor(run) if config.masks == "unet" else None

    def change(some: FilmSet) -> FilmSet:
        if find:
            label_maps = np.where(some.label_maps == LESION, LESION, find(some)).astype(np.uint8)
            some = dataclasses.replace(some, label_maps=label_maps)
        images = some.raw if config.data.keep_background else some.images * (some.label_maps > 0)
        return dataclasses.replace(some, images=images)

    return films.in_slices(change)


def mask_source(run: Run) -> str:
    """Where the masks of a GAN's run come from: ``unet``, ``cross-validation`` or ``annotation``."""
    return "cross-validation" if (run.path / MASK_FILES["cross-validate"]).exists() else run.config_of(GANConfig).masks


def supports_variants(config: GANConfig, unet: Run | None = None) -> bool:
    """Whether there can be variants of the films.

    Windows have none, as they are moved at random while they are trained on; nor have films with masks from a
    cross-validation, which found those of the films alone.
    """
    of_films_alone = config.masks == "unet" and unet is not None and unet.command == "cross-validate"
    return config.data.view == "whole" and not of_films_alone


def with_variants(run: Run, films: Sequence[Film], training: FilmSet, progress: Progress | None = None) -> FilmSet:
    """The training pictures, and beside them the variants that the run asks for.

    Raises:
        DataError: a film cannot be read, or there is no room for what is prepared.
    """
    config = run.config_of(GANConfig)
    data = config.data
    if not config.variants:
        return training
    by_id = {film.id: film for film in films}
    shown = [by_id[id_] for id_ in training.ids]
    return load_films(shown, data.size, data.view, data.lesions, variants=config.variants, progress=progress)


def load_anatomy_unet(run: Run) -> keras.Model | None:
    """The U-Net that draws the run's masks, where the anatomy loss has a weight; None where masks come from elsewhere.

    None, too, where the films are windows: their masks are found with a margin, and in a window alone the U-Net finds them no
    better in real films than a generator that learns to draw what it takes for dense tissue.

    Raises:
        ModelError: the U-Net is broken.
    """
    config, path = run.config_of(GANConfig), run.unet_path
    if not config.anatomy_weight or not path.exists() or config.data.view == "roi":
        return None
    unet = load_network(path)
    for layer in unet.layers:
        if isinstance(layer, FusedNormalization):
            # Keras then normalises: with kept statistics the fused operation has no deterministic gradient on a GPU.
            layer.synchronized = True
    return unet


def _mask_predictor(run: Run) -> Callable[[FilmSet], np.ndarray]:
    """A function of films to label maps without lesions, uint8 [N, C, C]: the masks or the U-Net that the run keeps."""
    if mask_source(run) == "cross-validation":
        return _cross_validated_masks(run)
    if not run.unet_path.exists():
        kept = f"{run.unet_path.name}, or {MASK_FILES['cross-validate']} where it came from a cross-validation"
        raise ModelError(f"{run.path}: expected {kept}, received: neither; put it back, or start another run")
    unet, keep_background = load_network(run.unet_path), run.config.data.keep_background
    return lambda films: predict_label_maps(unet, films.pictures(keep_background), lesions=False)


def _cross_validated_masks(run: Run) -> Callable[[FilmSet], np.ndarray]:
    ids, anatomy, corners, seen = read_masks(
        run.path / MASK_FILES["cross-validate"],
        ("ids", "anatomy", "corners", "fingerprints"),
        "write them again with cross-validate --resume, then start another run",
    )
    rows = {(name, pixels): row for row, (name, pixels) in enumerate(zip(ids, seen, strict=True))}

    def find(films: FilmSet) -> np.ndarray:
        chosen = [rows.get(picture, -1) for picture in zip(films.names, fingerprints(films), strict=True)]
        if -1 in chosen:
            raise DataError(
                f"{run.path}: expected the films that were cross-validated, received: another "
                f"{films.names[chosen.index(-1)]}; put it back, or cross-validate again"
            )
        found = anatomy[chosen]
        if found.shape == films.label_maps.shape:
            return found
        return (
            dataclasses.replace(films, images=found, raw=found, label_maps=found, corners=corners[chosen])
            .cropped()
            .label_maps
        )

    return find
