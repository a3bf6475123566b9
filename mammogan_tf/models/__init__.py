"""The networks: ``unet``, ``dcgan`` (generator and critic), the ``blocks`` that they share, and the critic as ``penalised``."""
