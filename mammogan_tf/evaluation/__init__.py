"""The report on synthetic films. In reading order:

- ``report`` goes the whole way: real films and the U-Net that evaluates (``reference``), synthetic images (of a generator,
  or of an ``image_folder``), all of it as ``evidence``;
- ``sections`` hold the questions, measures and figures; ``measuring`` asks them, with ``estimates`` that remember each
  patient;
- ``spaces`` and ``encoders`` turn images into features; ``downstream`` trains small networks with and without synthetic films;
- ``words``, ``page``, ``figures`` and ``sheet`` say and show what was found; ``writing`` puts it into files;
- ``compare`` sets reports side by side; ``drawn`` compares masks with those drawn by hand.
"""
