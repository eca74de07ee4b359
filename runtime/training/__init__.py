"""Training across nodes: local steps, compressed updates, aggregation."""
