"""Models as the runtime sees them: stages, cuts, exits, variants; and how they are made."""
