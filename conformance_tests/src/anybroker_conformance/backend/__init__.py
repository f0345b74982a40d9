"""The laws of a result backend, one module per law."""
