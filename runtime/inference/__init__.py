"""Running model segments."""
