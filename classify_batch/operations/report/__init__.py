"""The report of a run, or of two: one HTML page that a browser shows offline. Reads run directories only.

Journal, events and outcomes are streamed once; what is kept of them is bounded, whatever their number. Then a template
makes the page of it, which escapes every word from outside.
"""
