"""From what a user gives (a folder, a repository, a description) to a `ModelSpec`; and the list.

Reads configurations only: no weights, and never code from a model's repository.
"""
