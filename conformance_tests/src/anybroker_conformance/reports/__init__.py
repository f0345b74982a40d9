"""What a run has found, for people and for machines: terminal, JSON, HTML, JUnit, and the matrix of all adapters."""
