"""The extension surface: what policies, reuses and benchmarks outside of this library need.

These names are as stable as those of `sencache` itself; all other modules are internal.

- A policy implements :class:`Policy`: it gets a :class:`Call` at a :class:`CallPosition` of a
  :class:`Trajectory` and returns a :class:`Decision`, or :class:`Restart` for a new run.
- A reuse implements :class:`Reuse`: it gets a :class:`NetworkCall` and a :class:`RowSelection`,
  and returns the answer and a :class:`KeptOutput`.
- :func:`apply_policy` lets both run the networks of a pipeline.
- :class:`PlannedPolicy` follows any :class:`CacheSchedule`, with :class:`ForecastReuse`.
- `sencache.schedules.budget`, which needs no torch, has the arithmetic of budgets.
"""

from sencache.apply import PolicyMaker, apply_policy
from sencache.calibration.recording import OutputRecording, recorded_outputs
from sencache.families.base import ONE_CALL
from sencache.families.registry import FAMILIES
from sencache.hook.agreement import Agreement
from sencache.hook.attachment import attach, detach
from sencache.hook.call import Call, CallReader, is_paired, row_index, row_rms
from sencache.hook.sampler_position import SamplerPosition
from sencache.hook.trajectory import CallPosition, Trajectory
from sencache.pipelines import guidance_of
from sencache.policies.base import Decision, Policy, Restart
from sencache.policies.branch_rules import AnyProfile
from sencache.policies.gated import gate_ratio
from sencache.policies.planned import PlannedPolicy, Planner
from sencache.profiles.metadata import (
    Branch,
    ProfileMetadata,
    SensitivityPoint,
    architecture_of,
    dtype_name,
    sampler_facts,
)
from sencache.reuse.base import Forward, KeptOutput, NetworkCall, Reuse, RowSelection
from sencache.reuse.block_stack import BlockStack
from sencache.reuse.forecast import ForecastReuse
from sencache.reuse.output import OutputReuse
from sencache.reuse.residual import ResidualReuse
from sencache.schedules.planner import CacheSchedule
from sencache.schedules.sampler_moves import step_moves
from sencache.schedules.weights import Forecast

__all__ = [
    "FAMILIES",
    "ONE_CALL",
    "Agreement",
    "AnyProfile",
    "BlockStack",
    "Branch",
    "CacheSchedule",
    "Call",
    "CallPosition",
    "CallReader",
    "Decision",
    "Forecast",
    "ForecastReuse",
    "Forward",
    "KeptOutput",
    "NetworkCall",
    "OutputRecording",
    "OutputReuse",
    "PlannedPolicy",
    "Planner",
    "Policy",
    "PolicyMaker",
    "ProfileMetadata",
    "ResidualReuse",
    "Restart",
    "Reuse",
    "RowSelection",
    "SamplerPosition",
    "SensitivityPoint",
    "Trajectory",
    "apply_policy",
    "architecture_of",
    "attach",
    "detach",
    "dtype_name",
    "gate_ratio",
    "guidance_of",
    "is_paired",
    "recorded_outputs",
    "row_index",
    "row_rms",
    "sampler_facts",
    "step_moves",
]
