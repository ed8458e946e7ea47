"""Progress exhaust and response exhaust: one CSV of a batch, by hand or by job request."""
