/* What `source` was asked for on its command line, checked and bounded. */

#ifndef FASTMTA_ORDER_H
#define FASTMTA_ORDER_H

#include <getopt.h>

#include "link.h"

enum {
    SESSIONS_MAX = 50000,
    MESSAGES_MAX = 10000000,
    OCTETS_MAX = 64 << 20,
    SECONDS_MAX = 3600,
    ADDRESSES_MAX = 65000,
    HOLD_RAMP = 50,
};

enum tls { TLS_NONE, TLS_STARTTLS, TLS_IMPLICIT };

struct order {
    struct sockaddr_in target;
    long sessions;
    long messages;         /* of all sessions; --hold: of each */
    long octets;           /* of a body; the header section comes on top */
    int is_persistent;
    enum tls tls;
    int min_version, max_version; /* 0: what the library allows */
    const char *ciphers;
    int is_resuming;
    int is_waiting;        /* the clock starts when every session has been greeted */
    int is_holding;
    long ramp;             /* sessions at a time that are at work */
    struct in_addr origin; /* first of the addresses that are connected from; 0: the system's */
    long origins;
    long seconds_max;
    const char *from, *to;
};

static const char order_usage[] =
    "usage: source [options] ADDRESS:PORT    (loopback only)\n"
    "  -s N              sessions at a time (1)\n"
    "  -m N              messages of all sessions; with --hold of each session (1)\n"
    "  -l OCTETS         of a body, the header section not counted (4096)\n"
    "  -d                persistent: one connection per session, not one per message\n"
    "  -f, -t PATH       reverse-path, forward-path\n"
    "  --tls none|starttls|implicit\n"
    "  --min, --max TLSv1.2|TLSv1.3\n"
    "  --ciphers LIST    of OpenSSL; a list that begins with TLS_ is for TLS 1.3\n"
    "  --resume          resume the TLS session of the connection before\n"
    "  --wait-greeting   with -d: no message and no clock before all sessions are greeted\n"
    "  --hold            carry the messages, then stay open and silent until standard input ends\n"
    "  --ramp N          with --hold: sessions at a time that are at work (50)\n"
    "  --from ADDRESS    first address to connect from\n"
    "  --addresses N     how many, one after the other (1)\n"
    "  --seconds-max N   give up after (600)\n";

static const struct option order_options[] = {
    {"tls", required_argument, NULL, 'T'},       {"min", required_argument, NULL, 'n'},
    {"max", required_argument, NULL, 'x'},       {"ciphers", required_argument, NULL, 'c'},
    {"resume", no_argument, NULL, 'r'},          {"wait-greeting", no_argument, NULL, 'w'},
    {"hold", no_argument, NULL, 'h'},            {"ramp", required_argument, NULL, 'R'},
    {"from", required_argument, NULL, 'o'},      {"addresses", required_argument, NULL, 'a'},
    {"seconds-max", required_argument, NULL, 'S'}, {NULL, 0, NULL, 0},
};

static inline enum tls tls_kind(const char *text)
{
    static const char *const names[] = {"none", "starttls", "implicit"};
    for (int kind = TLS_NONE; kind <= TLS_IMPLICIT; kind++)
        if (!strcmp(text, names[kind]))
            return (enum tls)kind;
    refuse("source", "--tls is none, starttls or implicit");
    return TLS_NONE;
}

/* A path that fits in a command and cannot break out of it. */
static inline const char *safe_path(const char *text)
{
    if (strlen(text) > 200 || strpbrk(text, "\r\n<> "))
        refuse("source", "-f and -t are mailboxes, like sender@source.test");
    return text;
}

static inline void take_option(struct order *order, int letter, const char *text)
{
    switch (letter) {
    case 's': order->sessions = number("-s", text, 1, SESSIONS_MAX); break;
    case 'm': order->messages = number("-m", text, 0, MESSAGES_MAX); break;
    case 'l': order->octets = number("-l", text, 2, OCTETS_MAX); break;
    case 'd': order->is_persistent = 1; break;
    case 'f': order->from = safe_path(text); break;
    case 't': order->to = safe_path(text); break;
    case 'T': order->tls = tls_kind(text); break;
    case 'n': order->min_version = protocol_version("--min", text); break;
    case 'x': order->max_version = protocol_version("--max", text); break;
    case 'c': order->ciphers = text; break;
    case 'r': order->is_resuming = 1; break;
    case 'w': order->is_waiting = 1; break;
    case 'h': order->is_holding = 1; break;
    case 'R': order->ramp = number("--ramp", text, 1, SESSIONS_MAX); break;
    case 'a': order->origins = number("--addresses", text, 1, ADDRESSES_MAX); break;
    case 'S': order->seconds_max = number("--seconds-max", text, 1, SECONDS_MAX); break;
    case 'o':
        if (inet_pton(AF_INET, text, &order->origin) != 1 || !is_loopback(order->origin))
            refuse("source", "--from is an address of loopback");
        break;
    default:
        fputs(order_usage, stderr);
        exit(2);
    }
}

static inline struct order read_order(int argc, char **argv)
{
    struct order order = {.sessions = 1, .messages = 1, .octets = 4096, .origins = 1,
                          .seconds_max = 600, .from = "sender@source.test",
                          .to = "recipient@sink.test"};
    int letter;
    while ((letter = getopt_long(argc, argv, "s:m:l:df:t:", order_options, NULL)) != -1)
        take_option(&order, letter, optarg);
    if (optind != argc - 1) {
        fputs(order_usage, stderr);
        exit(2);
    }
    order.target = loopback_place(argv[optind]);
    if (order.is_waiting && !order.is_persistent)
        refuse("source", "--wait-greeting needs -d");
    if (order.origins > 1 && !order.origin.s_addr)
        refuse("source", "--addresses needs --from");
    if (order.is_holding) {
        order.is_persistent = 1;
        if (order.messages > MESSAGES_MAX / order.sessions)
            refuse("source", "too many messages");
    } else if (!order.messages) {
        refuse("source", "-m 0 needs --hold");
    } else if (order.sessions > order.messages) {
        order.sessions = order.messages;
    }
    if (order.is_holding ? order.is_waiting : order.ramp)
        refuse("source", "--ramp needs --hold, and --wait-greeting excludes it");
    if (!order.ramp)
        order.ramp = order.is_holding ? HOLD_RAMP : order.sessions;
    return order;
}

#endif
