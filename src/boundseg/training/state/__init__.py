"""What of a training changes while it runs: saved whole or not at all, and gone on from."""
