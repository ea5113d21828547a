"""Faults: a real system, traffic over both doors, faults in it, and validators that judge it from the outside."""
