"""The OpenAPI page says of true and false what the server takes."""

import jsonschema
import pytest

pytest.importorskip("fastapi")

from relgrade.serve.fields import Fields
from relgrade.serve.openapi import _FLAG
from relgrade.serve.refusals import Invalid


@pytest.mark.parametrize(
    "value", [True, False, None, 0, 1, "true", "True", " yes ", "NO", "0", "", 2, -1, 0.5, "on", "truely", [], {}]
)
def test_what_is_described_is_what_is_taken(value):
    is_described = jsonschema.Draft202012Validator(_FLAG).is_valid(value)
    if is_described:
        Fields({"flag": value}).flag("flag")
    else:
        with pytest.raises(Invalid, match="true or false"):
            Fields({"flag": value}).flag("flag")
