"""Writes ``addons.npz``: what tensorflow-addons computes on fixed arrays, for Keras to be compared with.

tensorflow-addons cannot be imported beside Keras 3, so this runs in an environment of its own (Python 3.9-3.11):

    python3.11 -m venv addons
    addons/bin/pip install 'tensorflow==2.15.*' 'tensorflow-addons==0.23.*'
    addons/bin/python tests/golden/make_addons_golden.py
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

STEPS, RATE, WEIGHT_DECAY, DECAY = 6, 0.1, 0.004, 0.9


def spectral_normalisation(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Three calls while training, each with two power iterations, then one in use."""
    films = random.normal(size=(2, 6, 6, 3)).astype(np.float32)
    layer = tfa.layers.SpectralNormalization(tf.keras.layers.Conv2D(4, 3), power_iterations=2)
    layer.build(films.shape)
    kernel, vector = random.normal(size=(3, 3, 3, 4)), random.normal(size=(1, 4))
    layer.layer.kernel.assign(kernel)
    layer.u.assign(vector)
    for _ in range(3):
        layer(films, training=True)
    return {
        "films": films,
        "kernel": kernel.astype(np.float32),
        "vector": vector.astype(np.float32),
        "normalised": layer.layer.kernel.numpy(),
        "output": layer(films, training=False).numpy(),
    }


def instance_normalisation(random: np.random.Generator) -> dict[str, np.ndarray]:
    films = (3 + 2 * random.normal(size=(2, 5, 4, 3))).astype(np.float32)
    layer = tfa.layers.InstanceNormalization(epsilon=1e-3)
    layer.build(films.shape)
    gamma, beta = (random.normal(size=3).astype(np.float32) for _ in range(2))
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    return {"films": films, "gamma": gamma, "beta": beta, "output": layer(films).numpy()}


def gradients(random: np.random.Generator) -> dict[str, np.ndarray]:
    """A variable's first value and its gradient at each step."""
    return {
        "first": random.normal(size=(4, 3)).astype(np.float32),
        "gradients": random.normal(size=(STEPS, 4, 3)).astype(np.float32),
    }


def moving_average(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Averages after each step of gradient descent: of fixed decay, and of one that rises to it."""
    given = gradients(random)
    result = dict(given)
    for name, options in (("fixed", {"start_step": 1}), ("rising", {"dynamic_decay": True})):
        variable = tf.Variable(given["first"])
        descent = tf.keras.optimizers.legacy.SGD(RATE)
        optimizer = tfa.optimizers.MovingAverage(descent, average_decay=DECAY, **options)
        averages, values = [], []
        for gradient in given["gradients"]:
            optimizer.apply_gradients([(tf.constant(gradient), variable)])
            averages.append(optimizer.get_slot(variable, "average").numpy())
            values.append(variable.numpy())
        result[name] = np.stack(averages)
        result["values"] = np.stack(values)
    return result


def adam_with_weight_decay(random: np.random.Generator) -> dict[str, np.ndarray]:
    """In tensorflow-addons the decay is not multiplied by the learning rate."""
    given = gradients(random)
    variable = tf.Variable(given["first"])
    optimizer = tfa.optimizers.AdamW(weight_decay=WEIGHT_DECAY, learning_rate=RATE, beta_1=0.5, beta_2=0.9)
    values = []
    for gradient in given["gradients"]:
        optimizer.apply_gradients([(tf.constant(gradient), variable)])
        values.append(variable.numpy())
    return {**given, "values": np.stack(values)}


def focal_loss(random: np.random.Generator) -> dict[str, np.ndarray]:
    truth = random.integers(0, 2, (5, 4)).astype(np.float32)
    probabilities = random.uniform(0.01, 0.99, (5, 4)).astype(np.float32)
    loss = tfa.losses.sigmoid_focal_crossentropy(truth, probabilities, alpha=0.25, gamma=2.0)
    return {"truth": truth, "probabilities": probabilities, "loss": loss.numpy()}


def main() -> None:
    parts = (spectral_normalisation, instance_normalisation, moving_average, adam_with_weight_decay, focal_loss)
    arrays: dict[str, np.ndarray] = {"constants": np.array([RATE, WEIGHT_DECAY, DECAY])}
    for seed, part in enumerate(parts):
        for name, array in part(np.random.default_rng(seed)).items():
            arrays[f"{part.__name__}/{name}"] = array
    np.savez_compressed(Path(__file__).parent / "addons.npz", **arrays)


if __name__ == "__main__":
    main()
