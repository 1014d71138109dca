"""The REST API in front of the gateway. In the making; nothing to import yet."""
