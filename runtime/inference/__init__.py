"""Running model segments, and running them less: answers kept, frames skipped, exits chosen by difficulty."""
