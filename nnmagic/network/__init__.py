"""A network and its calls: names, places in the code, what a layer expects, what is put back."""
