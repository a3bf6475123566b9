"""Both networks around lesions: from windows to films made and outlined."""

import dataclasses
import json

import numpy as np
import pytest

from mammogan_tf.config import GANConfig, UNetConfig, preset
from mammogan_tf.console import Console
from mammogan_tf.data.mias import load_mias
from mammogan_tf.errors import DataError
from mammogan_tf.inference import load_generator, load_segmenter
from mammogan_tf.inference.mask_sets import masks_of_model
from mammogan_tf.inference.segment import segment_grey
from mammogan_tf.serving.export import export_runs
from mammogan_tf.training.conditioning import create_gan_run
from mammogan_tf.training.gan import train_gan
from mammogan_tf.training.run import Run
from mammogan_tf.training.segmentation import create_unet_run, train_unet
from mammogan_tf.training.split_films import load_split


@pytest.fixture(scope="module")
def runs(phantom_root, tmp_path_factory):
    workdir, films, quiet = tmp_path_factory.mktemp("roi"), load_mias(phantom_root), Console(quiet=True)
    unet = create_unet_run(workdir, preset(UNetConfig, "tiny", {"view": "roi", "epochs": 1}), films, [phantom_root])
    train_unet(unet, films, quiet)
    config = preset(GANConfig, "tiny", {"view": "roi", "steps": 2})
    gan = create_gan_run(workdir, config, films, [phantom_root], unet)
    train_gan(gan, films, quiet)
    return unet, gan, films


def test_windows_have_a_margin(runs):
    unet, _, films = runs
    training, *others = load_split(unet, films)
    for part in (training, *others):
        assert part.images.shape[1:] == (24, 24)
        assert part.cropped().images.shape[1:] == (16, 16)
    lesions = sum(max(1, len(film.lesions)) for film in films if film.id in unet.split.train)
    assert len(training) == lesions


def test_masks_and_films_are_of_the_windows_size(runs):
    _, gan, _ = runs
    generator = load_generator(gan.path)
    masks = masks_of_model(generator)
    assert masks.label_maps.shape[1:] == (16, 16)
    assert generator(np.arange(2), masks.label_maps[:2], masks.labels[:2]).shape == (2, 16, 16)


def test_the_view_travels_with_the_model(runs, tmp_path):
    unet, gan, _ = runs
    version = export_runs([unet.path], tmp_path)[0]
    assert json.loads((version / "signature.json").read_text())["view"] == "roi"
    assert "a square of a film" in (version / "MODEL_CARD.md").read_text()
    picture = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
    for path in (unet.path, version):
        segmenter = load_segmenter(path)
        assert segmenter.view == "roi"
        found = segmenter(picture[None].astype(np.float32) / 255)[0]
        np.testing.assert_array_equal(segment_grey(segmenter, picture), found)
    assert Run.open(gan.path).config.data.view == "roi"


def test_a_part_without_windows_is_one_line(tmp_path, runs):
    unet, _, films = runs
    hidden = [
        dataclasses.replace(film, label=0, lesions=()) if film.id in unet.split.validation else film for film in films
    ]
    with pytest.raises(DataError, match="validation films: expected normal films, or lesions whose place is known"):
        load_split(unet, hidden)


@pytest.mark.slow
def test_samples_are_of_films_that_have_windows(tmp_path, runs, monkeypatch):
    monkeypatch.setattr("mammogan_tf.training.gan.SAMPLE_ROWS", 1)
    unet, _, films = runs
    config = preset(GANConfig, "tiny", {"view": "roi", "steps": 2})
    run = create_gan_run(tmp_path, config, films, [tmp_path], unet)
    first, *others = run.split.validation
    hidden = [dataclasses.replace(film, label=0, lesions=()) if film.id == first else film for film in films]
    assert others
    train_gan(run, hidden, Console(quiet=True))
    assert list((run.path / "samples").glob("*.png"))
