"""What already runs, compared with what the policies say: by the leader alone, behind every answer, and as slowly as it must be.

Nothing here takes part in a review. It asks the judge that reviews ask, so that both say the same of the same image.
"""
