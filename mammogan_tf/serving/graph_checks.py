"""Checks that run in the graph of an export, in every runtime: what fails is ``INVALID_ARGUMENT``, with its message."""

import tensorflow as tf

__all__ = ["require", "require_one_each", "require_range"]


def require(holds: tf.Tensor, message: str, *received: tf.Tensor) -> tf.Operation:
    """Ends a request with a message, and what was received behind it, unless the scalar ``holds``."""
    return tf.debugging.Assert(holds, [message, *received])


def require_one_each(what: str, *columns: tf.Tensor) -> tf.Operation:
    """All the inputs of a request are as long as one another."""
    batch = tf.stack([tf.shape(column)[0] for column in columns])
    return require(tf.reduce_all(batch == batch[0]), f"expected {what}, received:", batch)


def require_range(values: tf.Tensor, name: str, last: int) -> tf.Operation:
    """Every value lies in [0, last]; a NaN does not."""
    holds = tf.reduce_all(tf.logical_and(values >= 0, values <= last))
    extremes = tf.stack([tf.reduce_min(values), tf.reduce_max(values)])
    return require(holds, f"{name}: expected values 0-{last}, received from and to:", extremes)
