"""The real thing: processes, sockets, tensors and clocks.  Knows nothing of reinforcement learning."""
