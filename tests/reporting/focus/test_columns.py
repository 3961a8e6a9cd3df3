"""The columns of each version of FOCUS."""

import pytest
from focus_data_toolkit.schema.registry import version_columns

from livekit_costmeter.reporting.focus import FOCUS_VERSIONS, focus_columns


@pytest.mark.parametrize("version", FOCUS_VERSIONS)
def test_a_version_has_its_columns_and_custom_ones(version):
    """All of the specification, each once, and everything else begins with x_."""
    names = [column.name for column in focus_columns(version)]
    assert len(set(names)) == len(names)
    assert {name for name in names if not name.startswith("x_")} == version_columns("Cost and Usage", version)


def test_an_unknown_version_names_the_known_ones():
    """A wrong version is refused."""
    with pytest.raises(ValueError, match=r"'1\.1' is not one of 1\.2, 1\.3, 1\.4"):
        focus_columns("1.1")
