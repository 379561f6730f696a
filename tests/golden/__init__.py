"""A record of what the project does today, and the tool that compares a later version with it.

`python -m tests.golden --check` runs everything again and exits with 1 where something changed.
`python -m tests.golden --write` records anew: do it only for a deliberate change, read the diff of
`recorded/`, and say in the changelog what changed. `--only ids|samples|flags|schema|messages`
limits either to one section. Only `names.py` knows where the project keeps its names.
"""
