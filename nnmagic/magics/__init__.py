"""The typed line: its grammar and options, its one evaluation, the record that it asks for."""
