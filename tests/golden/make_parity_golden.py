"""Makes ``parity.npz``: what the reference implementations of the metrics give, for ``test_parity.py``.

Runs in an environment of its own and uses nothing of this project::

    pip install ".[parity]"
    pip install cython pykwalify setuptools simpleitk six versioneer wheel
    pip install --no-build-isolation --no-deps pyradiomics
    python tests/golden/make_parity_golden.py

pyradiomics is no part of the extra: it needs a C compiler, and builds only where NumPy is installed already.
"""

import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pytorch_msssim
import pywt
import SimpleITK
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou, compute_ms_ssim, get_confusion_matrix
from prdc import compute_prdc
from radiomics.glcm import RadiomicsGLCM
from scipy.ndimage import gaussian_filter, zoom
from skimage.metrics import structural_similarity
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

Arrays = dict[str, np.ndarray]

REFERENCES = (
    "monai",
    "prdc",
    "pyradiomics",
    "pytorch-msssim",
    "pywavelets",
    "scikit-image",
    "scikit-learn",
    "torch-fidelity",
)
SUBSETS, SUBSET_SIZE, SUBSET_SEED = 20, 40, 2020


def grey(random: np.random.Generator, size: int, smooth: float = 1.5) -> np.ndarray:
    """A texture on a half ellipse, uint8 [size, size]: takes little room in the file."""
    rows, columns = np.mgrid[-1 : 1 : size * 1j, 0 : 1 : size * 1j]
    texture = gaussian_filter(random.normal(size=(size, size)), smooth)
    scaled = 0.5 + 0.18 * texture / texture.std()
    return np.uint8(255 * np.clip(scaled, 0.05, 1) * (rows**2 + columns**2 < 0.9))


def pair(random: np.random.Generator, size: int) -> Arrays:
    first, other = grey(random, size), grey(random, size)
    return {"first": first, "second": np.uint8(0.7 * first + 0.3 * other)}


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image[None, None] / 255)


def similarity(random: np.random.Generator) -> Arrays:
    images = pair(random, 64)
    first, second = images["first"] / 255, images["second"] / 255
    keywords = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    tensors = tensor(images["first"]), tensor(images["second"])
    return {
        **images,
        "scikit-image": structural_similarity(first, second, **keywords),
        "pytorch-msssim": pytorch_msssim.ssim(*tensors, data_range=1.0).numpy(),
    }


def multi_scale_small(random: np.random.Generator) -> Arrays:
    images = pair(random, 64)
    weights = np.array([0.0448, 0.2856, 0.3001])
    weights *= 1.0001 / weights.sum()
    tensors = tensor(images["first"]), tensor(images["second"])
    value = compute_ms_ssim(*tensors, spatial_dims=2, data_range=1.0, weights=weights.tolist())
    return {**images, "monai": value[0, 0].numpy()}


def multi_scale_large(random: np.random.Generator) -> Arrays:
    images = pair(random, 192)
    tensors = tensor(images["first"]), tensor(images["second"])
    return {**images, "pytorch-msssim": pytorch_msssim.ms_ssim(*tensors, data_range=1.0).numpy()}


def label_maps(random: np.random.Generator) -> np.ndarray:
    """uint8 [6, 40, 40]: blobs of the classes 0-4."""
    coarse = random.normal(size=(6, 5, 8, 8))
    return np.uint8(zoom(coarse, (1, 1, 5, 5), order=1).argmax(axis=1))


def segmentation(random: np.random.Generator) -> Arrays:
    truth = label_maps(random)
    found = np.where(zoom(random.normal(size=(6, 8, 8)), (1, 5, 5), order=1) > 0.4, label_maps(random), truth)
    one_hot = [torch.from_numpy(np.eye(5)[maps].transpose(0, 3, 1, 2).copy()) for maps in (found, truth)]
    true_positive, false_positive, _, false_negative = get_confusion_matrix(*one_hot).numpy().transpose(2, 0, 1)
    return {
        "truth": truth,
        "found": found,
        "dice": compute_dice(*one_hot).numpy(),
        "iou": compute_iou(*one_hot).numpy(),
        "hd95": compute_hausdorff_distance(*one_hot, include_background=True, percentile=95).numpy(),
        "sensitivity": true_positive / (true_positive + false_negative),
        "precision": true_positive / (true_positive + false_positive),
    }


def features(random: np.random.Generator) -> Arrays:
    mixing = random.normal(size=(12, 12))
    return {
        "first": np.float32(random.normal(size=(90, 12)) @ mixing),
        "second": np.float32(random.normal(0.3, 0.9, (70, 12)) @ mixing),
    }


def distribution(random: np.random.Generator) -> Arrays:
    sets = {name: values.astype(np.float64) for name, values in features(random).items()}
    statistics = [fid_features_to_statistics(torch.from_numpy(values)) for values in sets.values()]
    kid = kid_features_to_metric(
        *map(torch.from_numpy, sets.values()),
        kid_subsets=SUBSETS,
        kid_subset_size=SUBSET_SIZE,
        rng_seed=SUBSET_SEED,
        verbose=False,
    )
    draw = np.random.RandomState(SUBSET_SEED)  # torch-fidelity's way of drawing its subsets
    drawn = [[draw.choice(len(values), SUBSET_SIZE, replace=False) for values in sets.values()] for _ in range(SUBSETS)]
    return {
        **sets,
        "subsets": np.array(drawn),
        "fid": fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"],
        "kid_mean": kid["kernel_inception_distance_mean"],
        "kid_deviation": kid["kernel_inception_distance_std"],
    }


def neighbourhoods(random: np.random.Generator) -> Arrays:
    sets = features(random)
    return {**sets, **compute_prdc(sets["first"].astype(float), sets["second"].astype(float), nearest_k=5)}


def texture(random: np.random.Generator) -> Arrays:
    """pyradiomics sees the levels 1-16 of the pixels brighter than 1/32 as its region."""
    image = grey(random, 64, smooth=1.0)
    levels = np.clip(np.floor(image / 255 * 16), 0, 15) + 1
    region = np.uint8(image / 255 > 1 / 32)
    itk_image, itk_region = (SimpleITK.GetImageFromArray(array[None]) for array in (levels, region))
    found = RadiomicsGLCM(itk_image, itk_region, binWidth=1, distances=[1], force2D=True, force2Ddimension=0)
    found.disableAllFeatures()
    names = {"contrast": "Contrast", "homogeneity": "Idm", "second_moment": "JointEnergy", "correlation": "Correlation"}
    for name in names.values():
        found.enableFeatureByName(name)
    values = found.execute()
    return {"image": image, **{ours: np.array(values[theirs]) for ours, theirs in names.items()}}


def wavelets(random: np.random.Generator) -> Arrays:
    image = grey(random, 64, smooth=1.0)
    details = pywt.wavedec2(image / 255, "haar", level=3)[:0:-1]
    # PyWavelets: horizontal, vertical, diagonal; ours: differences along rows, along columns, of both
    energies = [np.mean(scale[index] ** 2) for scale in details for index in (1, 0, 2)]
    return {"image": image, "energies": np.array(energies)}


def classifier(random: np.random.Generator) -> Arrays:
    sets = features(random)
    both = np.concatenate([sets["first"], sets["second"]]).astype(np.float64)
    is_second = np.arange(len(both)) >= len(sets["first"])
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1, priors=[0.5, 0.5]).fit(both, is_second)
    scores = model.decision_function(both)
    tied = np.round(scores)
    return {
        **sets,
        "scores": scores,
        "auc": roc_auc_score(is_second, scores),
        "auc_tied": roc_auc_score(is_second, tied),
    }


def neighbours(random: np.random.Generator) -> Arrays:
    queries, references = random.normal(size=(30, 8, 8)), random.normal(size=(50, 8, 8))
    model = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(references.reshape(50, -1))
    distances, indices = model.kneighbors(queries.reshape(30, -1))
    # scikit-learn: root of the sum, ours: of the mean
    return {"queries": queries, "references": references, "distances": distances[:, 0] / 8, "indices": indices[:, 0]}


PARTS = (
    similarity,
    multi_scale_small,
    multi_scale_large,
    segmentation,
    distribution,
    neighbourhoods,
    texture,
    wavelets,
    classifier,
    neighbours,
)


def main() -> None:
    versions = {name: importlib.metadata.version(name) for name in REFERENCES}
    arrays: dict[str, np.ndarray] = {"versions": np.array(json.dumps(versions))}
    for seed, part in enumerate(PARTS):
        for name, array in part(np.random.default_rng(seed)).items():
            arrays[f"{part.__name__}/{name}"] = np.asarray(array)
    np.savez_compressed(Path(__file__).parent / "parity.npz", **arrays)


if __name__ == "__main__":
    main()
