"""`countersign approvals watch`: what waits for people, live, with the vote.

:mod:`.board` decides what a key or a piece of news does and what is asked next, without a terminal; :mod:`.screen`
draws it; :mod:`.keys` and :mod:`.terminal` are the tty; :mod:`.feed` is the gateway; :mod:`.loop` puts them together.
"""
