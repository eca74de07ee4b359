"""Training on nodes: local steps, compression, aggregation, gossip, privacy.  Pure parts here, the roles of nodes in protocol/."""
