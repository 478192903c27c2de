"""The tokenizer of a bundle."""

from tokenizers import Tokenizer

from relgrade.bundle import Bundle
from relgrade.errors import BundleCorrupt

TOKENIZER_NAME = "tokenizer.json"


def read_tokenizer(bundle: Bundle) -> Tokenizer:
    """Read `tokenizer.json`.

    Raises:
        BundleError: it is missing, or no tokenizer.
    """
    content = bundle.read_bytes(TOKENIZER_NAME)
    try:
        return Tokenizer.from_buffer(content)
    except Exception as error:  # the tokenizers package raises bare Exception
        raise BundleCorrupt(
            f"{TOKENIZER_NAME} cannot be read ({error}); restore the bundle from where it came"
        ) from error
