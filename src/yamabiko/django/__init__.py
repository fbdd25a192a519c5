"""Floor 3: Django's settings, users, room classes and commands, thin over the floors below."""
