"""Reading and writing pairs: jsonl, csv, tsv, parquet, BEIR folders, TREC qrels; errors carry file and line.

Nothing here knows what pairs are used for. parquet needs the extra `parquet`, asked for when such a file is met.
"""

from relgrade.formats.journal import JsonlJournal
from relgrade.formats.read import read_pairs
from relgrade.formats.trec import read_trec
from relgrade.formats.write import write_pairs

__all__ = ["JsonlJournal", "read_pairs", "read_trec", "write_pairs"]
