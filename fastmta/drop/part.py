"""How many messages a submission becomes, and which recipients each has.

One as a rule. It is several where it has more recipients than a message may have, and one for each
recipient where their answers are to be told apart (VERP, variable envelope return paths). The
division goes by the file alone and by a number that stands in the plan of a claim, so it is the
same one whenever it is made anew.
"""

from __future__ import annotations

from .form import ITS, Submission


def step_of(submission: Submission, recipients_max: int) -> int:
    """How many recipients each message has, but for the last one."""
    return 1 if b"verp" in submission.options else recipients_max


def count_parts(submission: Submission, step: int) -> int:
    """How many messages it becomes."""
    return -(-len(submission.recipients) // step)


def part_of(submission: Submission, step: int, number: int) -> Submission:
    """What the message of this number, counted from 0, is."""
    begin = number * step
    part = Submission(submission.sender, submission.recipients[begin : begin + step])
    part.options = submission.options
    if submission.its:
        for index in range(len(part.recipients)):
            for word in ITS:
                value = submission.its.get((begin + index, word))
                if value is not None:
                    part.its[index, word] = value
    return part
