"""Eyes: what happened, for people and machines. Nothing here decides, waits or fails a review."""
