"""A video application whose knobs a policy sets: which cells of a fixed camera's picture are occupied by what moves.

    frames.py         pictures of a folder          knobs.py     what can be set          geometry.py    what a setting does to a picture
    pseudo_labels.py  what moves, without labels    teaching.py  the application's networks
    agreement.py      how right a report is         measure.py   accuracy and cost of settings
    policy.py         which setting to use          play.py      who plays, and what came of it
    live.py           looks through running nodes   table.py     the comparison as text

The knobs are the application's: how often it looks, at how many pixels, at which part.  Where a look's network is cut
and runs is a decision like any other, and taken by whoever decides on those nodes.
"""
