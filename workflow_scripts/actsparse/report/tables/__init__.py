"""Tables of a study: read the result JSONs, make rows of them, choose as declared, render."""
