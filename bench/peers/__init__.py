"""What others need for the same work: measured beside ours, in the same run."""
