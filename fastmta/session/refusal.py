"""What is wrong with the argument of a command, to the reply that says so."""

from fastmta.smtp import Problem, Reply
from fastmta.smtp import reply as replies

MAIL_PROBLEMS: dict[int, Reply] = {
    Problem.SYNTAX: replies.R501_MAIL_SYNTAX,
    Problem.BAD_ADDRESS: replies.R501_BAD_SENDER,
    Problem.NON_ASCII: replies.R553_NEED_SMTPUTF8,
    Problem.SOURCE_ROUTE: replies.R550_SOURCE_ROUTE,
    Problem.BAD_PARAMETER: replies.R501_BAD_PARAMETER,
    Problem.REPEATED_PARAMETER: replies.R501_REPEATED_PARAMETER,
}
RCPT_PROBLEMS: dict[int, Reply] = {
    **MAIL_PROBLEMS,
    Problem.SYNTAX: replies.R501_RCPT_SYNTAX,
    Problem.BAD_ADDRESS: replies.R501_BAD_RECIPIENT,
}
