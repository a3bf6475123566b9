"""Mask-conditioned synthetic mammograms in Keras 3 / TensorFlow: train, evaluate, serve. For research, never for diagnosis."""

__version__ = "0.1.0"
