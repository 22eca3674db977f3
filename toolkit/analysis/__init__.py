"""Tables in, tables out: what the measurements say, with the interval that they allow.

``starvation`` (with ``episodes``) finds when targets starved; ``readiness`` how long boots waited, ``boots`` how long those made
for it did, and what each remedy changes, ``configurations`` what these are called; ``rates`` whether a limit holds, ``waits`` how
readers at once fare; ``throughput`` and ``fragmentation`` sum up repeats; ``compare`` sets groups against a baseline; ``layers``
follows a file through the layers below it. ``stats`` has the intervals they share, ``survival`` those of times that were not seen
to end, ``frames`` what they ask of a frame. Nothing here opens a file or draws a figure.
"""
