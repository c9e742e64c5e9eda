"""The scheduler over real sockets: `fastmta bench sites | drain | shares | rates`.

One process (bench/receivers.c) is as many MX sites on loopback as are asked for, each with an
address and a delay of its own, some of them dead. A name server of the bench leads the domains to
them. What the receivers note of each message, and when, is what the figures are made of.
"""
