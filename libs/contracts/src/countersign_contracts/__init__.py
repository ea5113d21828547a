"""What Countersign's services say to one another, and nothing that does I/O.

Events, commands, the envelope, the action digest, the warrant, subjects, topology and errors live here, once.
A service imports this package; it never imports another service.
"""
