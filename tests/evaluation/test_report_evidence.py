"""Which films, networks and seeds a report stands on; nothing is trained or evaluated here."""

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from mammogan_tf.config import DataConfig, GANConfig, UNetConfig
from mammogan_tf.console import Console
from mammogan_tf.data.film import Film
from mammogan_tf.data.label_maps import save_label_map
from mammogan_tf.data.mias import load_mias
from mammogan_tf.data.splits import Split, split_patients
from mammogan_tf.errors import DataError
from mammogan_tf.evaluation import reference, report
from mammogan_tf.evaluation.downstream import Recipe
from mammogan_tf.evaluation.evidence import DownstreamResult, synthesise
from mammogan_tf.evaluation.image_folder import synthetic_films
from mammogan_tf.evaluation.reference import EVALUATOR_SEED, prepare_reference, real_films, to_float
from mammogan_tf.evaluation.spaces import texture_space
from mammogan_tf.inference import load_generator
from mammogan_tf.pictures import save_picture
from mammogan_tf.training.checkpoint import load_network
from mammogan_tf.training.conditioning import with_condition_masks
from mammogan_tf.training.prediction import predict_label_maps
from mammogan_tf.training.run import Run
from mammogan_tf.training.split_films import load_split

DATA = DataConfig(size=16, test=0.3)
EVALUATOR_CONFIG = UNetConfig(widths=(4, 6), seed=1)
RECIPE = Recipe(steps=7)
RESULTS = (DownstreamResult("real", 0, np.zeros(1), np.zeros(1)),)
QUIET = Console(quiet=True)
SEED = 3
OPTIONS = {"seed": SEED, "evaluator_config": EVALUATOR_CONFIG, "console": QUIET}


@pytest.fixture(scope="module")
def films(phantom_root) -> list[Film]:
    return load_mias(phantom_root)


def make_run(films: list[Film], workdir: Path, data: DataConfig) -> Run:
    """Of a GAN with masks of a U-Net, without benign films, and split otherwise than by default."""
    from mammogan_tf.models.dcgan import build_critic, build_generator
    from mammogan_tf.models.unet import build_unet

    split = split_patients(films, data.validation, data.test, seed=4)
    assert split.test != split_patients(films, data.validation, data.test, data.split_seed).test
    config = GANConfig(data=data, masks="unet", labels=("malignant", "normal"))
    made = Run.create(workdir, config, split, [films[0].path.parent])
    keras.utils.set_random_seed(0)
    build_unet(16, widths=(4, 6)).save(made.unet_path)
    build_critic(16, widths=(4, 4, 4)).save(made.critic_path)
    build_generator(16, z_dim=4, widths=(4, 4, 4)).save(made.model_path)
    return made


@pytest.fixture(scope="module")
def run(films, tmp_path_factory) -> Run:
    return make_run(films, tmp_path_factory.mktemp("runs"), DATA)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder, random = tmp_path_factory.mktemp("folder"), np.random.default_rng(0)
    for number in range(12):
        save_picture(folder / "images" / f"{number}.png", random.integers(0, 255, (16, 16), dtype=np.uint8))
        save_label_map(folder / "masks" / f"{number}.png", random.integers(0, 4, (16, 16)).astype(np.uint8))
    return folder / "images"


@pytest.fixture(scope="module", autouse=True)
def used(tmp_path_factory):
    """What the networks of use are trained with. The evaluation U-Net stays as initialised; evidence is given for a report."""
    from mammogan_tf.models.unet import build_unet

    given: list = []
    evaluators = tmp_path_factory.mktemp("evaluators")

    def initialise(evaluator, films, console):
        keras.utils.set_random_seed(evaluator.config.seed)
        build_unet(evaluator.config.data.size, widths=evaluator.config.widths).save(evaluator.model_path)

    def downstream(train, test, generator, view, file, seed, recipe, console):
        given.extend([train, test, view, file.name, seed, recipe])
        return RESULTS

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "train_unet", initialise)
        patch.setattr(report, "evaluators_folder", lambda: evaluators)
        patch.setattr(report, "evaluate_downstream", downstream)
        patch.setattr(report, "inception_space", texture_space)
        patch.setattr(report, "_report", lambda evidence, *said: {"evidence": evidence, "said": said})
        patch.setattr(report, "write_report", lambda *arguments: None)
        patch.setattr(report, "write_card", lambda *arguments: None)
        yield given


@pytest.fixture(scope="module")
def of_gan(run, films, tmp_path_factory) -> SimpleNamespace:
    """With the fewest images."""
    out = tmp_path_factory.mktemp("gan")
    found = report.evaluate(run, films, out, count=1, **OPTIONS, inception=True, recipe=RECIPE)
    return SimpleNamespace(**found)


@pytest.fixture(scope="module")
def of_images(run, films, images, tmp_path_factory) -> SimpleNamespace:
    """Beside the films of the run."""
    out, masks = tmp_path_factory.mktemp("images"), images.parent / "masks"
    found = report.evaluate_images(images, masks, films, run.data, out, run, **OPTIONS, inception=True)
    return SimpleNamespace(**found)


@pytest.mark.parametrize("kind", ["of_gan", "of_images"])
def test_films_are_those_of_the_run_as_its_generator_knows_them(request, run, films, kind):
    evidence = request.getfixturevalue(kind).evidence
    training, _, test = load_split(run, films)
    assert set(test.ids) < set(run.split.test)
    assert set(training.ids) < set(run.split.train)
    for part, found in ((training, evidence.train), (test, evidence.real)):
        known = with_condition_masks(run, part).cropped()
        assert (known.label_maps != part.label_maps).any()
        np.testing.assert_array_equal(found.masks, known.label_maps)
        np.testing.assert_array_equal(found.images, to_float(known.images))
        for name in ("names", "patients", "tissues"):
            assert getattr(found, name).tolist() == list(getattr(known, name))


@pytest.mark.parametrize("kind", ["of_gan", "of_images"])
def test_the_seed_and_the_spaces_are_those_asked_for(request, kind):
    evidence = request.getfixturevalue(kind).evidence
    assert evidence.seed == SEED
    assert set(evidence.spaces) == {"texture", "segmenter", "inception"}


def test_images_of_a_gan_are_those_of_the_seed(of_gan, run):
    real, generator = of_gan.evidence.real, load_generator(run.path)
    found, again, others = (
        made.images
        for made in (of_gan.evidence.synthetic, *(synthesise(real, generator, 2, seed) for seed in (SEED, 0)))
    )
    np.testing.assert_array_equal(found, again)
    assert (found != others).any()


def test_images_of_others_are_dealt_to_patients_by_the_seed(of_images):
    made, real = of_images.evidence.synthetic, of_images.evidence.real
    again, others = (synthetic_films(made.images, made.masks, real, seed) for seed in (SEED, 0))
    assert made.patients.tolist() == again.patients.tolist() != others.patients.tolist()
    assert of_images.said[2:4] == ("images", "given")


def test_the_networks_of_a_run_are_evaluated_with_it(of_gan, run, films):
    evidence, test = of_gan.evidence, load_split(run, films)[2].cropped()
    by_run = predict_label_maps(load_network(run.unet_path), test.images)
    assert evidence.segmentation.network == "the run's U-Net"
    np.testing.assert_array_equal(evidence.segmentation.found, by_run)
    np.testing.assert_array_equal(evidence.segmentation.truth, test.label_maps)
    assert (evidence.segmenter(to_float(test.images)) != by_run).any()
    assert np.isfinite(evidence.critic(evidence.real.images, evidence.real.masks, evidence.real.labels)).all()


def test_a_critic_sees_images_and_masks_as_in_its_training(run, monkeypatch):
    seen = {}

    def network(inputs, training):
        seen.update(inputs, training=training)
        return np.array([[2.0], [5.0]])

    monkeypatch.setattr(report, "load_network", lambda path: network)
    images = np.linspace(0, 1, 2 * 16 * 16, dtype=np.float32).reshape(2, 16, 16)
    masks = np.arange(2 * 16 * 16).reshape(2, 16, 16) % 5
    assert report._critic(run)(images, masks, np.array([1, 2])).tolist() == [2, 5]
    np.testing.assert_allclose(seen["image"][..., 0], images * 2 - 1)
    np.testing.assert_array_equal(np.argmax(seen["mask"], axis=-1), masks)
    assert np.sum(seen["mask"]) == masks.size
    assert (seen["label"].numpy().tolist(), seen["training"]) == ([1, 2], False)


def test_networks_of_use_are_trained_on_training_films_and_tested_on_the_others(of_gan, used):
    evidence = of_gan.evidence
    assert evidence.downstream is RESULTS
    assert used[0] is evidence.train
    assert used[1] is evidence.real
    assert used[2:] == ["whole", "downstream.jsonl", SEED, RECIPE]


def test_a_report_has_a_folder_of_its_own(run, films, images):
    with pytest.raises(DataError, match="folder of its own"):
        report.evaluate(run, films, run.path)
    with pytest.raises(DataError, match="folder of its own"):
        report.evaluate_images(images, None, films, run.data, run.path, run)


def test_masks_that_differ_in_every_fiftieth_pixel_are_those_of_other_films(run, films, tmp_path):
    copy = Run.open(shutil.copytree(run.path, tmp_path / "run"))
    training = with_condition_masks(copy, load_split(copy, films)[0]).cropped()
    label_maps = training.label_maps.copy()
    label_maps.reshape(-1)[::50] ^= 1
    np.savez_compressed(copy.masks_path, label_maps=label_maps, ids=np.array(training.names))
    with pytest.raises(DataError, match="others under the same names"):
        report.evaluate(copy, films, tmp_path / "out", evaluator_config=EVALUATOR_CONFIG, console=QUIET)


def test_films_beside_images_of_no_run_are_split_by_default(films, images, tmp_path):
    """Of 12 patients round(0.15 * 12) = 2 are for testing, round(0.10 * 12) = 1 for validation."""
    with pytest.raises(DataError, match="3 patients or more, received: 2"):
        report.evaluate_images(images, None, films, [], tmp_path / "out", console=QUIET)


def test_masks_of_windows_are_found_with_what_lies_around_them(films, tmp_path):
    """As those that the generator was trained on."""
    run = make_run(films, tmp_path / "runs", dataclasses.replace(DATA, view="roi"))
    evidence = report.evaluate(run, films, tmp_path / "out", count=1, **OPTIONS, recipe=RECIPE)["evidence"]
    training, _, test = load_split(run, films)
    for part, found in ((training, evidence.train), (test, evidence.real)):
        known = with_condition_masks(run, part).cropped().label_maps
        assert (known != with_condition_masks(run, part.cropped()).label_maps).any()
        np.testing.assert_array_equal(found.masks, known)


@pytest.mark.parametrize(("view", "sides"), [("whole", {"left", "right"}), ("roi", {""})])
def test_the_films_of_a_report_have_no_margin_and_windows_have_no_side(films, tmp_path, view, sides):
    one, two, *others = films[:6:2] + films[7:11:2]  # One of each patient.
    data, split = dataclasses.replace(DATA, view=view), Split((one.id,), (two.id,), tuple(film.id for film in others))
    found = prepare_reference([one, two, *others], data, split, [], tmp_path, EVALUATOR_CONFIG, QUIET)
    training, test = (real_films(part, films, view) for part in (found.training, found.test))
    assert training.images.shape[1:] == test.images.shape[1:] == (16, 16)
    assert set(test.sides) == sides
    assert found.evaluator.config == dataclasses.replace(
        EVALUATOR_CONFIG, data=data, seed=EVALUATOR_SEED, precision="float32"
    )
