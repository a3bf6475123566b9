"""Some training steps of both models in a process of its own, on several logical devices of one CPU."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.disturbed import FORKS

__all__ = ["steps_on", "weights_after_an_overflow"]

STEPS = 3


def steps_on(devices: int, data: Path, out: Path) -> dict[str, np.ndarray]:
    """The variables of both models, and the values of their trackers, after a few steps on so many devices."""
    process = FORKS.Process(target=_steps, args=(devices, data, out))
    process.start()
    process.join()
    assert process.exitcode == 0
    with np.load(out) as values:
        return dict(values)


def _steps(devices: int, data: Path, out: Path) -> None:
    from mammogan_tf.config import GANConfig, UNetConfig, preset
    from mammogan_tf.data.film_set import load_films
    from mammogan_tf.data.pipeline import gan_batches, segmentation_batches
    from mammogan_tf.data.sources import load_all
    from mammogan_tf.models.unet import build_unet
    from mammogan_tf.training.gan import build_wgan_gp
    from mammogan_tf.training.resumable import fit
    from mammogan_tf.training.segmentation import build_segmentation_trainer
    from mammogan_tf.training.strategy import set_up_device

    strategy = _logical_cpus(devices)
    films = load_films(load_all([data]), 16)
    values = {}
    for name in ("gan", "unet"):
        set_up_device("float32", 0, deterministic=True)
        with strategy.scope():
            if name == "gan":
                # Where the critic sees whole grey levels, a sum in another order can tip a pixel over to the next one.
                weights = {"anatomy_weight": 1.0, "energy_weight": 1.0, "emphasis": 0.0}
                gan = preset(GANConfig, "tiny", {"n_critic": 2, **weights})
                model = build_wgan_gp(gan, unet=build_unet(gan.data.size, widths=(4, 8)))
                make, size = gan_batches, gan.batch_size * gan.n_critic
            else:
                unet = preset(UNetConfig, "tiny", {"dropout": 0.5})
                model, make, size = build_segmentation_trainer(unet, 10), segmentation_batches, unet.batch_size
        fit(model, partial(_batches, make, films, size), STEPS, [], save=lambda step: None)
        values |= {f"{name}/{n}": variable.numpy() for n, variable in enumerate(model.variables)}
        counts = {tracker.name: tracker.count for tracker in model.trackers.values() if hasattr(tracker, "count")}
        values |= {f"{name}/count of {tracker}": np.float64(count) for tracker, count in counts.items()}
        values |= {f"{name}/{tracker}": np.float64(value) for tracker, value in model.pop_metrics().items()}
    np.savez(out, **values)


def weights_after_an_overflow(replica: int, out: Path) -> np.ndarray:
    """Weights [2] that begin at 1, after a float16 step of two replicas; the gradient of one of them is infinite."""
    process = FORKS.Process(target=_overflow, args=(replica, out))
    process.start()
    process.join()
    assert process.exitcode == 0
    return np.load(out)


def _overflow(replica: int, out: Path) -> None:
    import keras
    import tensorflow as tf

    from mammogan_tf.training.strategy import set_up_device, with_loss_scaling

    strategy = _logical_cpus(2)
    set_up_device("mixed_float16", 0, deterministic=True)
    with strategy.scope():
        weight = keras.Variable([1.0, 1.0])
        optimizer = with_loss_scaling(keras.optimizers.SGD(0.5))
        optimizer.build([weight])

    @tf.function
    def step():
        def own():
            here = tf.distribute.get_replica_context().replica_id_in_sync_group
            gradient = tf.where(tf.equal(here, replica), np.inf, 1.0) * tf.ones([2])
            optimizer.apply([gradient], [weight])

        strategy.run(own)

    step()
    np.save(out, weight.numpy())


def _logical_cpus(count: int) -> Any:
    """The strategy for so many logical devices."""
    import tensorflow as tf

    from mammogan_tf.training.strategy import make_strategy

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    strategy = make_strategy("mirrored" if count > 1 else "one")
    assert strategy.num_replicas_in_sync == count
    return strategy


def _batches(make: Callable, films: Any, size: int, context: Any) -> Any:
    return make(films, size, seed=0, context=context)
