"""Training on nodes: local steps, what is exchanged and how it is compressed, aggregation, gossip, privacy.  Not yet part of the runtime's nodes."""
