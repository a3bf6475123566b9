"""What a training runs on: devices, precision, determinism."""

import keras
import tensorflow as tf

from mammogan_tf.config import STRATEGIES, GANConfig, UNetConfig
from mammogan_tf.console import Console
from mammogan_tf.errors import ConfigError, ModelError, first_line
from mammogan_tf.replicas import all_reduce_sum
from mammogan_tf.training.rendezvous import wait_for_all
from mammogan_tf.training.workers import cluster
from mammogan_tf.validated import require

__all__ = [
    "choose_precision",
    "describe_replicas",
    "make_strategy",
    "require_divisible",
    "set_up_device",
    "several_machines",
    "with_loss_scaling",
]


def several_machines(name: str) -> bool:
    """Whether a strategy of this name spans the machines that ``TF_CONFIG`` names.

    Raises:
        ConfigError: ``TF_CONFIG`` is broken.
    """
    return name in ("auto", "multiworker") and len(cluster()) > 1


def make_strategy(name: str, console: Console | None = None) -> tf.distribute.Strategy:
    """The strategy of a name out of ``config.STRATEGIES``; to be made before TensorFlow computes anything in the process.

    ``auto`` takes several machines where ``TF_CONFIG`` names them, else several GPUs where there are, else one device.
    Where there are several machines it waits for them, as the console hears.

    Raises:
        ConfigError: there is no such strategy, or ``TF_CONFIG`` is missing or broken.
        ModelError: the other machines cannot be reached.
    """
    require(name in STRATEGIES, "strategy", " | ".join(STRATEGIES), name)
    gpus = len(tf.config.list_physical_devices("GPU"))
    if name == "auto":
        name = "multiworker" if several_machines(name) else "mirrored" if gpus > 1 else "one"
    if name == "one":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(_logical_devices())
    if not cluster():
        raise ConfigError(
            'multiworker: expected TF_CONFIG such as {"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
            '"task": {"type": "worker", "index": 0}}, received: none; set it on each machine'
        )
    wait_for_all(console or Console(quiet=True))
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"multiworker: expected to reach all workers of TF_CONFIG, received: {first_line(error)}; "
            "start all of them again"
        ) from error


def _logical_devices() -> list[str]:
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    return [device.name for device in tf.config.list_logical_devices(kind)]


def require_divisible(config: UNetConfig | GANConfig, strategy: tf.distribute.Strategy) -> None:
    """Raises ConfigError unless the replicas can share a batch, with an energy score an even number of films each."""
    batch_size, devices = config.batch_size, strategy.num_replicas_in_sync
    if batch_size % devices:
        raise ConfigError(f"batch_size: expected a multiple of the {devices} devices, received: {batch_size}")
    if isinstance(config, GANConfig) and config.energy_weight and batch_size // devices % 2:
        raise ConfigError(
            f"batch_size: expected an even number for each device with an energy score, received: {batch_size // devices}"
        )


def describe_replicas(strategy: tf.distribute.Strategy) -> str:
    """``, on 4 devices``; nothing for one."""
    count = strategy.num_replicas_in_sync
    return f", on {count} devices" if count > 1 else ""


def choose_precision(precision: str) -> str:
    """Resolves ``auto``: bfloat16 on a GPU that computes in it, float16 on an older one, float32 on a CPU."""
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "float32"
    major, _ = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
    return "mixed_bfloat16" if major >= 8 else "mixed_float16" if major >= 7 else "float32"


def set_up_device(precision: str, seed: int, deterministic: bool) -> str:
    """Clears Keras's session, sets the precision policy and the seeds of the process, and returns the policy's name.

    Args:
        precision: ``auto``, ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.
        seed: of the initial weights and of dropout.
        deterministic: make runs on the same device bit-identical, where that costs speed. It stays so for the process:
            TensorFlow has no way back.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    policy = choose_precision(precision)
    keras.config.set_dtype_policy(policy)
    return policy


def with_loss_scaling(optimizer: keras.Optimizer) -> keras.Optimizer:
    """Wraps an optimizer against float16 underflow where the policy asks for it.

    A custom ``train_step`` gets no automatic loss scaling in Keras 3: it must call ``scale_loss`` itself.
    """
    if keras.config.dtype_policy().name == "mixed_float16":
        return _SharedLossScale(optimizer)
    return optimizer


class _SharedLossScale(keras.optimizers.LossScaleOptimizer):
    """Loss scaling by which no replica takes a step where the gradients of another are not finite.

    Keras looks at those of one replica before it sums them over all.
    """

    def apply(self, grads, trainable_variables=None):
        dense = [tf.convert_to_tensor(gradient) for gradient in grads]
        zero = all_reduce_sum(tf.add_n([tf.reduce_sum(0 * gradient) for gradient in dense]))  # Or nan, in each replica.
        super().apply([gradient + zero for gradient in dense], trainable_variables)
