"""Write a report of a model or a store as one HTML page."""
