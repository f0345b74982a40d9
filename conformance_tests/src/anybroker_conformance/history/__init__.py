"""What happened: recorded calls, pure checkers over them, and how they are shown."""
