"""AMD's XDNA1 NPU: designs as data, what the hardware allows, and what runs, checks and prices them."""
