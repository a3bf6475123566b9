"""What a training runs on: precision, determinism, memory."""

import contextlib

import keras
import tensorflow as tf

__all__ = ["choose_precision", "scaled", "set_up_device"]


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
    """Sets the global precision policy and seeds, and returns the policy's name.

    Args:
        precision: ``auto``, ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.
        seed: of the initial weights and of dropout.
        deterministic: make runs on the same device bit-identical, where that costs speed.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # the process has used it before
            tf.config.experimental.set_memory_growth(gpu, True)
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    policy = choose_precision(precision)
    keras.config.set_dtype_policy(policy)
    return policy


def scaled(optimizer: keras.Optimizer) -> keras.Optimizer:
    """Wraps an optimizer against float16 underflow where the policy asks for it.

    A custom ``train_step`` gets no automatic loss scaling in Keras 3: it must call ``scale_loss`` itself.
    """
    if keras.config.dtype_policy().name == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer
