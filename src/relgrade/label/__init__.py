"""Labels by a teacher LLM: rubrics, a client of the servers people run, a journal that pays for nothing twice, batches.

Nothing is imported here: asking needs httpx, the extra `label`, and is in `label.labelling`; reading and writing
labels, batch files and labels that people already have work without it.
"""
