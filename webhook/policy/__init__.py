"""What a policy says: its language, its values, and which policies speak about an image. No evidence, no I/O."""
