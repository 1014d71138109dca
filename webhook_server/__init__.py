"""Webhooks: events in, signed deliveries out. In the making; nothing to import yet."""
