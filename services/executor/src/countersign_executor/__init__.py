"""The executor: the tool catalogue, the only hands that touch business systems, and the stops.

It executes what policy granted, once, after audit has it on record, and says what came of it. It decides
nothing about permission: without a warrant for exactly this action it does nothing.
"""
