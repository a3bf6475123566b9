"""A batch that several replicas of a network hold parts of (``tf.distribute``): what they have to agree on.

On one device a part is the whole, and every function here leaves it as it is.
"""

from collections.abc import Callable

import tensorflow as tf

__all__ = ["all_reduce_sum", "draw_replica_rows", "num_replicas"]


def num_replicas() -> int:
    """Number of replicas that share a batch, on all devices of all machines."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def all_reduce_sum(part: tf.Tensor) -> tf.Tensor:
    """The sum of a tensor over the replicas, in each of them. It is differentiable, as often as need be.

    A gradient that flows back through it is summed over the replicas too.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return part
    return context.all_reduce(tf.distribute.ReduceOp.SUM, part)


def draw_replica_rows(draw: Callable[[tf.Tensor], tf.Tensor], count: tf.Tensor) -> tf.Tensor:
    """The replica's rows of random numbers that ``draw(rows)`` makes for the whole batch.

    Each replica draws all of them, from generators in the same state, so that a batch gets the same numbers however many
    replicas share it.

    Args:
        draw: number of rows to a tensor with as many.
        count: rows of this replica.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return draw(count)
    first = tf.cast(context.replica_id_in_sync_group, tf.int32) * count
    return draw(count * context.num_replicas_in_sync)[first : first + count]
