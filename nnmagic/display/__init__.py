"""A neutral table as text and as HTML, and quantities as text."""
