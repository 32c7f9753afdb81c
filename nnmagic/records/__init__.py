"""What is kept of a run and what it says: frozen values and tables, without torch."""
