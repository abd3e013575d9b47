"""From a folder of labelled slices to networks and tables of figures; imported by nothing in the node."""
