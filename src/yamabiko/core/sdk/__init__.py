"""The SDK protocol: one connection, many rooms."""
