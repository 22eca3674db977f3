"""What the kernel says: random numbers, files, the machine. Standard library only, Python 3.8 and later.

The same files run on the host and inside guests. They read, time and return plain values; frames are made by
:mod:`toolkit.experiments`.
"""
