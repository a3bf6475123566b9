"""Films, from files on disk to batches for training. In reading order:

- ``sources`` finds the films: of ``mias``, or of a ``folder`` with its ``film_table`` and ``dicom`` files; ``fetch``, by
  ``download`` and ``archive``, brings mini-MIAS;
- ``film`` is one film and what is known about it;
- ``anatomy`` outlines it: ``outline`` (the breast), ``pectoral`` (the muscle), ``density`` (dense tissue); ``lesions``
  outlines lesions inside their circles; ``label_maps`` is what comes of it;
- ``preparation`` makes the picture and the label map that networks see, whole or in ``windows``, and ``variants`` of them;
- ``cache`` does so once for each film and keeps it on disk; ``film_set`` holds the films of a training in memory;
- ``splits`` deals patients to training, validation and test; ``pipeline`` makes batches, with the augmentation in
  ``transforms``;
- ``mask_editing`` changes label maps, for new anatomies and lesions; ``masks`` writes them;
- ``audit`` says what is suspect in a data set, by the ``inspection`` of each film;
- ``phantom`` draws films: ``phantom_tissue``, ``phantom_details``, ``phantom_film``.
"""
