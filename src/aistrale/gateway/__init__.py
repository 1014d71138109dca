"""One call, written once: route, cache, send, retry, fall back, tell the handlers."""
