"""One model over several processes: a parent that runs no model, and the ranks that do.

The parent (a Ray actor, or any program) starts the ranks, gives each request to all of them and
takes the answer of rank 0. It knows when a rank has died, raised or fallen silent, and then ends
them all: half a group cannot go on, and its collectives would wait for ever.

| module | what it knows |
|---|---|
| `spec` | size, devices and limits of a group |
| `messages` | what parent and ranks say to each other |
| `launch` | environment and start of one rank; its output, line by line |
| `reaper` | that no rank outlives its parent, whatever kills it |
| `rank` | the program of a rank |
| `pace` | how long a rank may be silent, from how long it was before |
| `parent` | the group as its owner sees it |
| `engine` | the engine of an actor over a group, and what each rank loads |
| `layout` | which backend splits which model, and by what degrees |
| `mesh` | which ranks of a group do what together |
| `guidance` | branches of classifier-free guidance on two halves of the ranks |
| `decoding` | decoders shared by all ranks |
| `xfuser` | splitting Wan by xfuser |
| `context_parallel` | splitting by diffusers' context parallelism |
| `joint`, `shards` | splitting networks whose attention joins text and video tokens |

Up to `parent` they know nothing of models or samples; nothing here knows Ray.
"""

from pipeline.group.errors import GroupError, RankDiedError, RankRaisedError, RankSilentError
from pipeline.group.messages import RankContext
from pipeline.group.pace import Pace
from pipeline.group.parent import RankGroup
from pipeline.group.spec import GroupSpec

__all__ = [
    "GroupError",
    "GroupSpec",
    "Pace",
    "RankContext",
    "RankDiedError",
    "RankGroup",
    "RankRaisedError",
    "RankSilentError",
]
