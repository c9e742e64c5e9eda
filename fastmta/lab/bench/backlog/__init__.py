"""`fastmta bench backlog`: what deferred mail costs, and how fast it goes when due.

The backlog is built through the spool's own front door, by processes of their own: each message is
accepted and its deferral recorded, as by a server that could reach nobody. Then servers are started
on it and beside it. Mail goes to its domains' MX hosts: a name server of our own leads all of them
to one receiver on loopback, so that every domain is a next hop and (by default) a site of its own.
"""
