"""Other systems' policies → ours. Text in, resources out, and what is not the same afterwards is said. No I/O."""
