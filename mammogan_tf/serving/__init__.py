"""SavedModels, and a server and clients that speak the gRPC API of TensorFlow Serving. In reading order:

- ``export`` writes trained networks, by ``saved_model``, with the ``signatures``: ``film_png`` reads and writes PNG in the
  graph, ``placement`` turns label maps and paints lesions, ``checks`` refuses bad input;
- ``engines`` chooses what serves, as ``settings`` say: ``model_server`` runs TensorFlow Serving's binary, ``server`` the
  embedded one;
- the embedded server: ``services`` are the gRPC methods, ``answering`` what they have in common, ``decoding`` and
  ``tensors`` read requests, ``versions`` loads models, ``servable`` is one of them, ``batching`` shares passes, ``unread``
  holds back whom nobody reads; ``health``, ``metrics``, ``log``, ``pem``, ``refusal``;
- ``client`` and ``aio`` ask a server, over a ``channel``, in the words of ``questions``.
"""
