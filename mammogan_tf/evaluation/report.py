"""From a run, or a folder of images, to its report: films, images, networks, numbers, pages."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import mammogan_tf
from mammogan_tf.config import CLASSES, LABELS, DataConfig, GANConfig, UNetConfig
from mammogan_tf.console import Console
from mammogan_tf.data.film import Film
from mammogan_tf.data.label_maps import read_masks
from mammogan_tf.data.splits import split_patients
from mammogan_tf.data.transforms import to_network_range
from mammogan_tf.errors import DataError, ModelError
from mammogan_tf.evaluation.downstream import Recipe, evaluate_downstream
from mammogan_tf.evaluation.encoders import inception_space, segmenter_space
from mammogan_tf.evaluation.evidence import Evidence, Score, Segmentation, synthesise
from mammogan_tf.evaluation.image_folder import read_images, synthetic_films
from mammogan_tf.evaluation.measuring import measure
from mammogan_tf.evaluation.reference import Reference, evaluators_folder, prepare_reference, real_films
from mammogan_tf.evaluation.sections.memorisation import masks_of_training, memorisation_verdict
from mammogan_tf.evaluation.spaces import FeatureSpace, texture_space
from mammogan_tf.evaluation.writing import FORMAT, write_card, write_report
from mammogan_tf.files import require_separate_folder, visible_pngs
from mammogan_tf.inference import load_generator, load_segmenter
from mammogan_tf.training.checkpoint import load_network
from mammogan_tf.training.conditioning import mask_source, with_condition_masks
from mammogan_tf.training.prediction import predict_label_maps
from mammogan_tf.training.run import Run, is_run
from mammogan_tf.training.scores import fitted_disc
from mammogan_tf.training.split_films import load_split, mean_grey

__all__ = ["evaluate", "evaluate_images"]

DOWNSTREAM_RESULTS = "downstream.jsonl"

MAX_CHANGED_SHARE = 0.01
"""Share of the pixels of training masks that may have changed.

The same U-Net on another device rounds differently, so a few mask pixels may change."""

MAX_GREY_DIFFERENCE = 1.0
"""Grey levels, of 255, by which the mean of the training films may differ from what the run has noted, for rounding."""


def evaluate(
    run: Run,
    films: Sequence[Film],
    out: str | Path,
    *,
    count: int = 500,
    seed: int = 0,
    evaluator_config: UNetConfig | None = None,
    console: Console | None = None,
    inception: bool = False,
    recipe: Recipe | None = None,
) -> dict[str, Any]:
    """Evaluates the generator of a run on its test patients, and writes the figures into the run's model card.

    Writes ``report.json``, ``report.html``, ``report.md``, ``sheet.png`` and ``patients.json`` (what each value would be
    without each patient or block of them, for :mod:`mammogan_tf.evaluation.compare`). A segmenter that looks for the masks in the
    synthetic images is trained first, on the run's training films, below
    :func:`~mammogan_tf.evaluation.reference.evaluators_folder`; another call on these films finds it there, and goes on where an
    interrupted one stopped.

    Args:
        run: a finished ``train-gan`` run.
        films: the films of its data; more than those of its split do no harm.
        out: the folder to write to; it is made.
        count: synthetic images, about: the same number, two or more, from the mask of each test film.
        seed: of noise, drawn pairs and bootstrap samples; the same seed gives the same report.
        evaluator_config: the evaluation U-Net; the defaults of :class:`UNetConfig` where None. Its ``data`` is always that
            of the run.
        console: where to show progress.
        inception: evaluate in the feature space of Inception-v3 too.
        recipe: how networks are trained to see whether the images are of use, which takes longest; where None, they are
            not. What is finished is kept in ``out/downstream.jsonl``, and a second call goes on from there.

    Returns:
        The content of ``report.json``, as ``report.schema.json`` describes it.

    Raises:
        ModelError: the run is not a finished GAN; the weights of Inception-v3 cannot be had.
        DataError: films of the split are missing, or others under their names, or there are too few test patients, or
            ``out`` is a run or holds films.
        OSError: ``out`` cannot be written to.
    """
    console, out = console or Console(), Path(out)
    evidence = _evidence_of(run, films, out, count, seed, evaluator_config, console, inception)
    if recipe:
        generator, view = load_generator(run.path), run.config.data.view
        downstream = evaluate_downstream(
            evidence.train, evidence.real, generator, view, out / DOWNSTREAM_RESULTS, seed, recipe, console
        )
        evidence = replace(evidence, downstream=downstream)
    step = run.ended_with.get("best_step")
    report = _report(evidence, str(run.path), step, "gan", mask_source(run), run.config.data, console)
    write_report(report, evidence, out)
    write_card(run, report, console)
    return report


def _evidence_of(
    run: Run,
    films: Sequence[Film],
    out: Path,
    count: int,
    seed: int,
    evaluator_config: UNetConfig | None,
    console: Console,
    inception: bool,
) -> Evidence:
    """The evidence of :func:`evaluate`, whose arguments these are: trains the evaluation U-Net and generates the images."""
    _require_own_folder(out, films)
    run.require_finished("train-gan")
    config = run.config_of(GANConfig)
    extra = _extra_spaces(inception, console)
    _require_trained_on(run, films, console)
    _make_folder(out)
    reference = prepare_reference(
        films, config.data, run.split, run.data, evaluators_folder(), evaluator_config, console, run.trained_labels
    )
    train, test = (
        real_films(with_condition_masks(run, part), films, config.data.view)
        for part in (reference.training, reference.test)
    )
    generator, per_mask = load_generator(run.path), max(2, round(count / len(test)))
    return Evidence(
        real=test,
        train=train,
        synthetic=synthesise(test, generator, per_mask, seed, console.progress("synthetic images")),
        segmenter=load_segmenter(reference.evaluator.path),
        spaces=_spaces(reference, console) | extra,
        segmentation=_segmentation(reference, run.unet_path),
        critic=_critic(run),
        seed=seed,
    )


def evaluate_images(
    images: Path,
    masks: Path | None,
    films: Sequence[Film],
    sources: Sequence[str | Path],
    out: str | Path,
    like: Run | None = None,
    *,
    seed: int = 0,
    evaluator_config: UNetConfig | None = None,
    console: Console | None = None,
    inception: bool = False,
) -> dict[str, Any]:
    """Evaluates a folder of images, whoever made them; what needs to know more of them is marked ``not computed``.

    Args:
        images: a folder of square PNGs of one size, 16 pixels or more and a power of two.
        masks: a folder of index PNGs of the same names and size, or None.
        films: the real films to compare with.
        sources: where these come from.
        out, seed, evaluator_config, console, inception: as in :func:`evaluate`.
        like: a run whose split and preparation of the films are taken over; the default split where None.

    Raises:
        DataError: the folder cannot be read as described, there are too few films, or others than ``like`` was trained on, or
            ``out`` is a run or holds films, images or masks.
        ModelError: the run is a cross-validation.
        OSError: ``out`` cannot be written to.
    """
    console, out = console or Console(), Path(out)
    if like and like.command == "cross-validate":
        raise ModelError(
            "--split-of: expected a train-unet or train-gan run, received: a cross-validate run; "
            "its networks have seen every film, name another"
        )
    _require_own_folder(out, films, images, masks)
    pixels, label_maps = read_images(images, masks)
    size = pixels.shape[1]
    data = like.config.data if like else DataConfig(size=size)
    if like and data.size != size:
        raise DataError(f"{images}: expected images of {data.size} pixels, as {like.path} has, received: {size}")
    extra = _extra_spaces(inception, console)
    if like:
        _require_trained_on(like, films, console)
    _make_folder(out)
    split = like.split if like else split_patients(films, data.validation, data.test, data.split_seed)
    labels = like.trained_labels if like and isinstance(like.config, GANConfig) else LABELS
    reference = prepare_reference(films, data, split, sources, evaluators_folder(), evaluator_config, console, labels)
    training, test = reference.training, reference.test
    if like and isinstance(like.config, GANConfig):
        training, test = with_condition_masks(like, training), with_condition_masks(like, test)
    real = real_films(test, films, data.view)
    evidence = Evidence(
        real=real,
        train=real_films(training, films, data.view),
        synthetic=synthetic_films(pixels, label_maps, real, seed),
        segmenter=load_segmenter(reference.evaluator.path),
        spaces=_spaces(reference, console) | extra,
        segmentation=_segmentation(reference),
        seed=seed,
    )
    report = _report(evidence, str(images), None, "images", "given" if masks else "none", data, console)
    write_report(report, evidence, out)
    return report


def _require_own_folder(out: Path, films: Sequence[Film], *folders: Path | None) -> None:
    """Refuses a run, and a folder with films, with masks of them, or with PNGs in ``folders``."""
    if is_run(out):
        raise DataError(
            f"{out}: expected a folder of its own for the report, received: a run directory; choose another"
        )
    require_separate_folder([film.path for film in films] + [film.drawn.path for film in films if film.drawn], out)
    for folder in folders:
        require_separate_folder(visible_pngs(folder) if folder else [], out)


def _make_folder(out: Path) -> None:
    """Makes the folder of the report and tries to write there, before the work begins."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
        pass


def _require_trained_on(run: Run, films: Sequence[Film], console: Console) -> None:
    """Refuses other films under the same names: no network has seen them, so that memorisation could only pass.

    Other films are known by their mean brightness, and for a GAN by their masks, too.
    """
    training = load_split(run, films, console)[0]
    grey = mean_grey(training.cropped())
    same = abs(run.ended_with.get("mean_grey", grey) - grey) <= MAX_GREY_DIFFERENCE
    if run.masks_path.exists():
        label_maps, names = read_masks(run.masks_path, ("label_maps", "ids"), "put it back, or train another run")
        training = with_condition_masks(run, training).cropped()
        same &= training.names == tuple(names) and training.label_maps.shape == label_maps.shape
        same = same and (training.label_maps != label_maps).mean() <= MAX_CHANGED_SHARE
    if not same:
        raise DataError(
            f"{run.path}: expected the films and masks that it was trained on, received: others under the same names; "
            "name theirs with --data"
        )


def _extra_spaces(inception: bool, console: Console) -> dict[str, FeatureSpace]:
    return {"inception": inception_space(console)} if inception else {}


def _spaces(reference: Reference, console: Console) -> dict[str, FeatureSpace]:
    return {
        "texture": texture_space(console),
        "segmenter": segmenter_space(reference.evaluator.model_path, console),
    }


def _segmentation(reference: Reference, unet: Path | None = None) -> Segmentation:
    """The segmentation by the U-Net that draws the masks of a GAN, or by the evaluation U-Net where there is no such U-Net."""
    own = unet is not None and unet.exists()
    network = load_network(unet if unet and own else reference.evaluator.model_path)
    test = reference.test.cropped()
    found = predict_label_maps(network, test.images)
    disc = fitted_disc(reference.training.cropped()) if reference.evaluator.config.data.view == "roi" else None
    return Segmentation("the run's U-Net" if own else "the evaluation U-Net", test.label_maps, found, disc)


def _critic(run: Run) -> Score | None:
    if not run.critic_path.exists():
        return None
    network = load_network(run.critic_path)

    def score(images: np.ndarray, masks: np.ndarray, labels: np.ndarray) -> np.ndarray:
        image, label = to_network_range(tf.constant(images[..., None])), tf.constant(labels)
        inputs = {"image": image, "mask": tf.one_hot(masks, len(CLASSES)), "label": label}
        return np.asarray(network(inputs, training=False))[:, 0]

    return score


def _report(
    evidence: Evidence, model: str, step: int | None, kind: str, masks: str, data: DataConfig, console: Console
) -> dict[str, Any]:
    measures = measure(evidence, console.progress("sections", 0))
    return {
        "format": FORMAT,
        "version": mammogan_tf.__version__,
        "model": model,
        "step": step,
        "kind": kind,
        "masks": masks,
        "size": data.size,
        "view": data.view,
        "segmented_by": evidence.segmentation.network,
        "evaluator": evidence.spaces["segmenter"].key.split()[-1][:16],
        "films": {
            "train": len(evidence.train),
            "test": len(evidence.real),
            "test_patients": len(np.unique(evidence.real.patients)),
        },
        "synthetic": {
            "images": len(evidence.synthetic),
            "seed": evidence.seed,
            "tied": evidence.synthetic.films is not None,
            "masks_of_training": masks_of_training(evidence),
        },
        "memorisation": memorisation_verdict(evidence, measures["memorisation"]),
        "measures": measures,
    }
