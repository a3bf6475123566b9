"""Both trainings, and what they share. In reading order:

- ``run`` is the folder that a training leaves; ``split_films`` the films of its split; ``card`` its model card;
- ``segmentation`` trains the U-Net, a ``supervised`` model with the metric in ``region_dice``; ``prediction`` makes label
  maps with it, ``scores`` says how good they are, ``cross_validation`` does so for every film;
- ``gan`` trains the GAN, whose ``train_step`` is in ``wgan_gp``; ``conditioning`` gives it its masks, ``averaging`` its
  averaged weights, and ``monitor`` looks at validation films and chooses the state that is kept;
- ``stepped`` goes step by step, so that ``checkpoint`` can break off and go on anywhere; ``callbacks`` is what happens
  beside the steps;
- ``strategy`` chooses devices and precision; ``workers`` and ``rendezvous`` hold several machines together.
"""
