"""Mask-conditioned synthetic mammograms in Keras 3 / TensorFlow: train, judge, serve. For research, never for diagnosis."""

import os
import platform

__version__ = "0.1.0"

if platform.machine() in ("x86_64", "AMD64"):
    # TensorFlow, where it is imported after this, else leaves oneDNN out on processors without AVX512-VNNI or AMX.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
