"""What `pipeline check` makes of a kernel that lacks a fence."""

from __future__ import annotations

import pytest

from pipeline.operate.checks import isolation

ALL = {"network": True, "files": True, "calls": True}


@pytest.mark.parametrize(
    ("missing", "said", "remedy"),
    [
        ({"network"}, "from the network", "seccomp or user namespaces"),
        ({"files"}, "from reading what its user may read", "Landlock"),
        ({"network", "calls"}, "from the network and starting programs", "Allow seccomp"),
    ],
)
def test_a_fence_that_the_kernel_lacks_is_named_with_its_remedy(missing: set[str], said: str, remedy: str):
    finding = isolation(ALL | dict.fromkeys(missing, False))
    assert finding.ok is None
    assert finding.detail.endswith(said)
    assert remedy in finding.remedy


def test_behind_all_fences_nothing_is_to_be_done():
    assert isolation(ALL).ok is True
    assert isolation(ALL).remedy == ""
