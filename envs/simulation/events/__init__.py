"""The simulator that runs the nodes' own state machines (runtime/protocol) in virtual time.

    machine --instruction--> Host: how long does it take? --event, later--> machine

Queues, tenants, batches, caches, hand-over, loading and telemetry are not modelled here: they are the code that serves
live.  What is modelled is what the machines ask the world for: seconds of computing, looking and loading (as profiled),
links (the emulation that senders use live), and answers (as measured on each example).
"""
