"""Trained models in use: loaded (``models``, ``exports``), to ``segment`` films, ``generate`` them, or ``walk`` between two."""

from mammogan_tf.inference.models import Generator, Segmenter, load_generator, load_segmenter

__all__ = ["Generator", "Segmenter", "load_generator", "load_segmenter"]
