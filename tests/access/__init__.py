import pytest

for module in ("clients", "storage", "search", "others", "probe", "world"):
    pytest.register_assert_rewrite(f"tests.access.{module}")
