"""Notebooks for the tests, as the dicts that their files hold."""

import json
import os


def notebook_of_cells(cells):
    """A notebook of code cells."""
    empty = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    return {
        "cells": [{**empty, "id": f"cell{i}", "source": cell} for i, cell in enumerate(cells)],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def executed(notebook, *, folder=None):
    """Run a notebook in a kernel of its own, and return it with its outputs."""
    import nbformat  # takes a second
    from nbclient import NotebookClient

    notebook = nbformat.reads(json.dumps(notebook), as_version=4)  # which joins lines to texts
    resources = {"metadata": {"path": str(folder or "")}}
    client = NotebookClient(notebook, timeout=300, resources=resources, kernel_name="python3")
    # tests in several processes have the width of a terminal
    client.execute(env={name: value for name, value in os.environ.items() if name != "COLUMNS"})
    return notebook
