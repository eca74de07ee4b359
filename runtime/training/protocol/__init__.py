"""Training jobs as state machines: who joins, which round is open, whose updates count, what is to be computed.

    part.py        what a node has of all this: takes messages and results to the role that it plays
    client.py      has data: joins, trains when a round comes, sends its update up
    relay.py       passes on between those above and below
    rounds.py      one round at a time among the clients below: what roots and aggregators share
    aggregator.py  averages those below, and is one client to the node above
    root.py        begins rounds until the job is done, and keeps its records
    peer.py        learns without a server, exchanging halves with its like; observer.py watches, measures, keeps the records
    tasks.py       what the trainer's thread is asked to do, and what it answers
    ports.py       how messages leave the node

Nothing here computes on weights or imports torch: that is runtime/training/worker.py.
"""
