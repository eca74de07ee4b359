"""What nodes do, as pure state machines: `handle(event) -> [instruction]`.

    client --Submit--> device --Work--> edge --Work--> cloud
           <-Outcome--        <-Result--     <-Result--
                          \\--Observation--> controller, which answers Decided or Refused

No sockets, no threads, no clock: events carry the time, the shell (runtime/node.py) performs instructions.
"""
