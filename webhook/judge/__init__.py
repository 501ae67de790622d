"""The judge: one implementation of "may it run here?", asked by admission and the command line alike.

`workload` turns objects into a question, `evaluate` evidence into rulings, `enforce` rulings into an answer, `explain` all of
it into words. It stands below admission because two implementations of the same question would drift apart.
"""
