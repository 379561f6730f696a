"""The lower end: the best use of 5 to 13 network evaluations of 50, and which clips come out worst.

Plans of the product beside fewer steps and everything that was tried there.
"""
