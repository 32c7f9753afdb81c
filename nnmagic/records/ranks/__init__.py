"""The runs of several ranks side by side: which agree, and where they part."""
