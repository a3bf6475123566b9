"""Speed, as ratios within one run.

``timing`` measures in turns, and ``machine`` says on what. ``training`` compares the shipped steps with ``textbook`` and
with PyTorch (``torch_training``, ``torch_networks``); ``input_pipeline`` looks at the input pipeline, ``generation`` at films to
disk, ``serving`` at requests.
"""
