"""Trained models in use: loaded (``models``, ``exports``), to ``segment`` films, to
``generate`` them from ``mask_sets``, or to ``walk`` between two."""

from mammogan_tf.inference.models import Generator, Segmenter, load_generator, load_segmenter

__all__ = ["Generator", "Segmenter", "load_generator", "load_segmenter"]
