"""Metrics and traces, subscribed to events; off unless somebody asks for them."""
