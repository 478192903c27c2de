"""`relgrade bundle`: look into a bundle, and check that it is whole and still grades as it did when it was made."""

import click
