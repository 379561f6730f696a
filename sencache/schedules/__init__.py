"""Cache schedules with an exact budget: drift, forecast weights, the dynamic programme.

Pure arithmetic over times and drift; knows neither networks nor hooks.
"""
