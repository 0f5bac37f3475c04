"""How `execute` runs a scheme: weights laid out anew, products that skip, modules that call them."""
