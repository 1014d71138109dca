"""Spans of calls: made by a callback handler, kept and sent in the background."""
