"""A record written to a file: taken apart into JSON and arrays."""
