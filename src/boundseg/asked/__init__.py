"""What is asked of each case: constraints as they are written in YAML, and the bounds that are known for them."""
