"""Trained models in use: load them, segment films, generate synthetic ones."""

from mammogan_tf.inference.models import Generator, Segmenter, load_generator, load_segmenter

__all__ = ["Generator", "Segmenter", "load_generator", "load_segmenter"]
