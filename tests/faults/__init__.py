"""What breaks on purpose: killed processes, damaged stores, full disks, hostile frames; and what must hold all the same."""
