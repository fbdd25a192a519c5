"""Floor 0: decides. Standard library and msgspec only; no asyncio, no socket, no clock, no Django."""
