"""Floor 1: number, keep and carry publications. They may wait."""
