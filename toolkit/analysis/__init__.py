"""Tables in, tables out: what the measurements say, with the interval that they allow.

``starvation`` (with ``episodes``) finds when targets starved; ``readiness`` how long boots waited; ``throughput`` and
``fragmentation`` sum up repeats; ``compare`` sets groups against a baseline; ``layers`` follows a file through the layers below it.
``stats`` has the intervals they share, ``frames`` what they ask of a frame. Nothing here opens a file or draws a figure.
"""
