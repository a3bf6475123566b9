"""Measures on arrays, without TensorFlow; usable by themselves.

- ``segmentation`` (Dice, IoU, HD95) and ``detection`` (free-response) compare label maps;
- ``similarity`` (SSIM, MS-SSIM) compares pairs of images;
- ``features`` turns images into vectors; ``distribution`` (KID, FID, precision and recall) and ``two_sample`` (a
  classifier) compare two sets of them;
- ``lesions`` measures the contrast of lesions; ``memorisation`` whether training films are handed out;
- ``intervals`` puts 95 % intervals over patients on numbers.
"""
