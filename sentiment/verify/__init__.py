"""An output checked from its files alone. Knows what was promised, not how it was made."""
