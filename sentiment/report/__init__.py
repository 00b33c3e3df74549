"""What a run tells: its summary, its files and its page."""
