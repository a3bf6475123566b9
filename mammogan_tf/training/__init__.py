"""Both trainings, and what they share. In reading order:

- ``run`` is the folder that a training leaves; ``split_films`` the films of its split; ``card`` its model card;
- ``segmentation`` trains the U-Net, whose ``train_step`` is in ``segmentation_trainer`` and metric in ``region_dice``;
  ``prediction`` makes label maps with it, ``scores`` says how good they are, ``cross_validation`` does so for every film;
- ``gan`` trains the GAN, whose ``train_step`` is in ``wgan_gp``; ``conditioning`` gives it its masks, ``averaging`` its
  averaged weights, and ``monitor`` looks at validation films and chooses the state that is kept;
- ``session`` is what both do beside their steps, from where they left off; ``resumable`` the base class of both models and
  the loop that can be interrupted at any step; ``checkpoint`` saves and restores; ``callbacks`` are history, progress and
  best weights;
- ``strategy`` chooses devices and precision; ``workers`` and ``rendezvous`` hold several machines together.
"""
