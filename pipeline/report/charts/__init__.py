"""The charts of a report's page: SVG that is drawn here, so that the page needs no library.

They are views of the numbers in `pipeline.report.document` and measure nothing.
"""
