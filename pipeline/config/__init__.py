"""A run's settings: typed sections, the YAML file, the flags, and what they say to people.

Knows no model's rules; those are checked where requests get their defaults.
"""
