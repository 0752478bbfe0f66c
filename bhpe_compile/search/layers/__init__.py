"""What compiled models lose, layer by layer and stage by stage: measured, ranked, and kept within a budget."""
