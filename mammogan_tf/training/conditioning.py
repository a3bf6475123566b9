"""The masks that a GAN is conditioned on."""

import dataclasses

import numpy as np

from mammogan_tf.config import GANConfig
from mammogan_tf.data.film_set import FilmSet
from mammogan_tf.data.label_maps import LESION
from mammogan_tf.training.checkpoint import load_network
from mammogan_tf.training.run import Run
from mammogan_tf.training.segmentation import predict_label_maps

__all__ = ["MASKS", "condition"]

MASKS = {"train-unet": "unet.keras", "cross-validate": "unet_masks.npz"}
"""What a GAN's run keeps of the run that its masks come from: the network, or the masks themselves."""


def condition(run: Run, films: FilmSet) -> FilmSet:
    """The films with the masks that this run's generator is conditioned on.

    From a U-Net, the anatomy is what the network finds, or found in cross-validation, and the lesions are the annotated
    ones; from annotations, the masks stay as they are. The background is black where the mask says background, unless the
    run keeps it.
    """
    config = run.config
    assert isinstance(config, GANConfig)
    if config.masks == "unet":
        anatomy = _anatomy(run, films)
        films = dataclasses.replace(
            films, label_maps=np.where(films.label_maps == LESION, LESION, anatomy).astype(np.uint8)
        )
    if config.data.keep_background:
        return dataclasses.replace(films, images=films.films)
    return dataclasses.replace(films, images=films.images * (films.label_maps > 0))


def _anatomy(run: Run, films: FilmSet) -> np.ndarray:
    """The films' label maps without lesions, uint8 [N, C, C], from the masks or the U-Net that the run keeps."""
    kept = run.path / MASKS["cross-validate"]
    if kept.exists():
        with np.load(kept) as masks:
            rows = {name: row for row, name in enumerate(masks["ids"])}
            chosen = [rows[name] for name in films.names]
            anatomy, corners = masks["anatomy"][chosen], masks["corners"][chosen]
        if anatomy.shape == films.label_maps.shape:
            return anatomy
        return (
            dataclasses.replace(films, images=anatomy, films=anatomy, label_maps=anatomy, corners=corners)
            .cropped()
            .label_maps
        )
    pictures = films.films if run.config.data.keep_background else films.images
    return predict_label_maps(load_network(run.path / MASKS["train-unet"]), pictures, lesions=False)
