import pytest

from jobs.benchmarks.throughput.core_sets import CoreSets, Sharing, choose_cores
from pipeline.errors import UserError


@pytest.mark.parametrize(
    ("device", "sharing", "cores", "expected"),
    [
        ("cpu", "apart", (4, 5), CoreSets((4,), (5,))),
        ("cpu", "apart", (0, 1, 2, 3), CoreSets((0, 1), (2, 3))),
        ("cpu", "shared", (0, 1, 2), CoreSets((0, 1, 2), (0, 1, 2))),
        ("cpu", "shared", (7,), CoreSets((7,), (7,))),
        ("cuda", "apart", (0, 1, 2), CoreSets((), (0, 1, 2))),
    ],
)
def test_an_engine_on_cpus_has_cores_of_its_own_unless_they_are_to_be_shared(
    device: str, sharing: Sharing, cores: tuple[int, ...], expected: CoreSets
) -> None:
    assert choose_cores(device, sharing, cores) == expected


def test_one_core_cannot_be_parted() -> None:
    with pytest.raises(UserError, match="--cores apart needs two cores"):
        choose_cores("cpu", "apart", (3,))
