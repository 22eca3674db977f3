"""Guests and the channel to them: what runs inside, how it is framed, who receives it, and guests made for an experiment."""
