"""What the record of a run says in words: NaN, failures, what misleads, class scores."""
