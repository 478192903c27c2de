"""The processes of `torchrun` speak to each other before and after `fit`, in the group that the Trainer then uses."""

from datetime import timedelta

import torch
from accelerate import PartialState

PATIENCE = timedelta(days=1)  # of processes that wait while the first one reads data or measures a bundle


def broadcast(value: bool) -> bool:
    """What the first process says, in all of them; each waits here for the others.

    Args:
        value: read in the first process.
    """
    has_accelerator = torch.cuda.is_available() or torch.backends.mps.is_available()
    PartialState(cpu=not has_accelerator, timeout=PATIENCE)  # the same choice as the Trainer's, which finds it made
    said = [value]
    torch.distributed.broadcast_object_list(said, src=0)
    return said[0]
