"""From raw graphs to bundles. Imports `model`, never `service`."""
