"""Recorded provider traffic, and what each provider's own SDK reads in it."""
