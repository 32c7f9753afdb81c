"""The rules: what is wrong with a network, its loss, its gradients and its steps, as it runs."""
