"""What one process remembers: the policies in force, and answers that cost something to get.

Everything here is bounded and lives in this process; nothing is shared between replicas, and losing it costs time only.
"""
