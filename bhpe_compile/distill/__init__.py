"""Training: a full-precision network on labelled pictures, and its binary form with the full-precision one as teacher.

    recipe   what a user chooses            samples  a picture -> what the network sees
    targets  labels -> the network's units  losses   what is compared
    engine   the loop, its checkpoints      train, student   the two tasks
"""
