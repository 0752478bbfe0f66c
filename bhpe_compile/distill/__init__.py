"""Training: a full-precision network on labelled pictures, and its binary form with the full-precision one as teacher.

recipe          what a user chooses              lesson     what differs between networks
full_precision  the first task                   described  the lesson of any network, by its interface:
student         the second task                  views      a picture -> its inputs
engine          the loop                         by_kind    what is compared of its outputs
record          checkpoints and log              taps       and of its trunk
"""
