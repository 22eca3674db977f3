"""What is measured rather than asserted: the toolkit's own speed, each figure beside a peer or a limit of the same run."""
