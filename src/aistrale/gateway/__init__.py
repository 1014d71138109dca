"""One call, written once: route, cache, send, retry, fall back, tell the handlers."""

import logging

# A library is silent unless its user wants to hear it: without this Python would print warnings itself.
logging.getLogger("aistrale").addHandler(logging.NullHandler())
