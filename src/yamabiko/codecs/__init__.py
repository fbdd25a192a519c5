"""Floor 1: wire protocols as pure functions, bytes to commands and events to frames."""
