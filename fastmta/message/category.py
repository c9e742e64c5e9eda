"""What kind of trouble a refusal is: a closed list, in two words.

The first word is what an operator does about it, and is independent of whether the reply was final:

hard    the address or the message will never do: take it off the list, mend the message
soft    passes without anybody doing anything, or is the recipient's to mend
block   refused for who we are or for what the mail looks like: mend reputation, records, content
local   our own settings, account or machine
"""

import enum


class Category(enum.StrEnum):
    """The value is what logs, counters and rule files say."""

    HARD_ADDRESS = "hard.address"  # not an address that the peer can read
    HARD_BAD_DOMAIN = "hard.bad_domain"
    HARD_INACTIVE = "hard.inactive"  # there is such a mailbox, but nobody at it
    HARD_LOOP = "hard.loop"
    HARD_MOVED = "hard.moved"
    HARD_NULL_MX = "hard.null_mx"
    HARD_OTHER = "hard.other"
    HARD_PROTOCOL = "hard.protocol"  # one of us does not speak SMTP, or not this part of it
    HARD_RELAY_DENIED = "hard.relay_denied"
    HARD_RESTRICTED = "hard.restricted"  # the recipient takes mail from some senders only
    HARD_SENDER = "hard.sender"  # the reverse-path, or the From field
    HARD_SUPPRESSED = "hard.suppressed"  # a provider's list of addresses that it does not send to
    HARD_TOO_BIG = "hard.too_big"
    HARD_UNKNOWN_USER = "hard.unknown_user"
    HARD_UTF8 = "hard.utf8"

    SOFT_BUSY = "soft.busy"
    SOFT_CONNECTION = "soft.connection"  # none came about, or it was lost
    SOFT_DNS = "soft.dns"
    SOFT_GREYLIST = "soft.greylist"
    SOFT_IN_DOUBT = "soft.in_doubt"  # the peer may have taken it: the final reply was lost
    SOFT_MAILBOX_FULL = "soft.mailbox_full"
    SOFT_OTHER = "soft.other"
    SOFT_RATE = "soft.rate"
    SOFT_SENDER_QUOTA = "soft.sender_quota"  # of our account at a provider
    SOFT_STORAGE = "soft.storage"  # of the whole system
    SOFT_TIMEOUT = "soft.timeout"
    SOFT_TLS = "soft.tls"
    SOFT_TOO_MANY_CONNECTIONS = "soft.too_many_connections"
    SOFT_TOO_MANY_RECIPIENTS = "soft.too_many_recipients"

    BLOCK_ATTACHMENT = "block.attachment"
    BLOCK_AUTHENTICATION = "block.authentication"  # SPF, DKIM, DMARC, reverse DNS
    BLOCK_CONTENT = "block.content"
    BLOCK_DNSBL = "block.dnsbl"
    BLOCK_DOMAIN_REPUTATION = "block.domain_reputation"
    BLOCK_IP_REPUTATION = "block.ip_reputation"
    BLOCK_POLICY = "block.policy"
    BLOCK_URL = "block.url"
    BLOCK_VIRUS = "block.virus"

    LOCAL_ACCOUNT = "local.account"  # disabled, or not allowed to do this
    LOCAL_CREDENTIALS = "local.credentials"
    LOCAL_DISK = "local.disk"
    LOCAL_ROUTE = "local.route"  # the configuration says so: transports error and hold
