"""Training across nodes: the pure core that any node may import.  No torch, no sockets, no clock."""
