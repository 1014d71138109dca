"""The only code that touches sockets: sync over httpx, async over aiohttp, and answers made in process."""
