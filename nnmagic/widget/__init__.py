"""The notebook's view: a record for the browser, and its network run again or followed live."""
