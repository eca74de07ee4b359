"""Training on nodes: local steps, compression, aggregation, gossip, privacy.  The pure parts; no node calls them yet."""
