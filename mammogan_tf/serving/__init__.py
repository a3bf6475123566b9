"""SavedModels, and a server and clients that speak the gRPC API of TensorFlow Serving. In reading order:

- ``export`` writes trained networks, by ``saved_model``, with the ``signatures``: ``film_png`` reads and writes PNG in the
  graph, ``orientation`` turns label maps and paints lesions, ``graph_checks`` refuses bad input;
- ``engines`` chooses what serves, as ``settings`` say: ``model_server`` runs TensorFlow Serving's binary, ``server`` the
  embedded one;
- the embedded server: ``services`` are the gRPC methods, ``rpc`` what they have in common, ``decoding`` and
  ``tensors`` read requests, ``versions`` loads models, ``servable`` is one of them, ``batching`` shares passes, ``backpressure``
  holds back whom nobody reads; ``health``, ``prometheus``, ``log``, ``pem``, ``status_error``;
- ``client`` and ``aio`` ask a server, over a ``channel``, in the words of ``predict_requests``.
"""
