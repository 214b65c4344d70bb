"""Many deliveries, several workers, and faults drawn at random: nothing lost, doubled or wrong."""
