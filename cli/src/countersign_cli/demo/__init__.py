"""The demonstration: a support agent works a ticket queue, first without and then through Countersign, in five acts."""
